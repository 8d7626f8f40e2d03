"""The verifier as a scorer: for queries that carry a reference, as in a task set or a replayed log."""

from __future__ import annotations

from rheostat.data.schema import Query
from rheostat.data.verifiers import Verifier, grade_aside
from rheostat.policies.base import Call, Candidate


class Referenced:
    """Scores an answer against the query's own reference; spends nothing."""

    def __init__(self, verifier: Verifier) -> None:
        self.name = verifier.name
        self.reads_reply = verifier.reads_reply
        self._verifier = verifier

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:  # noqa: ARG002
        """The verifier's score; an abstention without a reference."""
        return await grade_aside(self._verifier, query, reply=candidate.text, answer=candidate.answer)
