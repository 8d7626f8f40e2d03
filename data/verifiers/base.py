"""What a verifier is: question, answer and reference in, a score out; deterministic, and none generates a token.

An unparsed answer (None) scores 0.0. A missing reference is an abstention: None, never a default score.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol

from rheostat.data.answers import as_reference
from rheostat.data.schema import AnswerKind, Query


class Verifier(Protocol):
    """Scores one answer against a reference.

    `reads_reply` tells that it wants the whole reply in place of the answer extracted from it, as code and JSON need;
    `is_slow` that it waits for another process, which an event loop must not.
    """

    name: ClassVar[str]
    reads_reply: ClassVar[bool]
    is_slow: ClassVar[bool]

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:
        """The score in [0, 1], where 1.0 means solved; None for an abstention."""
        ...


def grade(verifier: Verifier, query: Query, *, reply: str, answer: str | None) -> float | None:
    """The score of a reply by the query's own reference; None for an abstention.

    Args:
        verifier: says which of the two it reads.
        query: what was asked.
        reply: the whole of it.
        answer: what was extracted from it; of a text the reference may show that more lines belong to it.
    """
    kind, given = query.kind or "text", reply if verifier.reads_reply else answer
    if not verifier.reads_reply and kind == "text" and query.reference is not None:
        given = as_reference(reply, query.reference) or answer
    return verifier.verify(query.text, given, query.reference, kind)


async def grade_aside(verifier: Verifier, query: Query, *, reply: str, answer: str | None) -> float | None:
    """As `grade`, in a thread where the verifier is slow: calls in flight go on meanwhile. Cancelled, it ends by itself."""
    if not verifier.is_slow:
        return grade(verifier, query, reply=reply, answer=answer)
    return await asyncio.to_thread(grade, verifier, query, reply=reply, answer=answer)
