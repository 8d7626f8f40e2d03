"""Verifiers for answers of a form: a regular expression, a LaTeX expression, a JSON schema.

Each of these can be made to take for ever by the answer it reads, so the work is done by processes that are killed when
they are late; an answer that could not be judged is an abstention. Needs the `verify` extra.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rheostat.data.answers import as_stated, extract
from rheostat.data.errors import DatasetError
from rheostat.data.schema import AnswerKind
from rheostat.data.verifiers.workers import WORKERS, TaskError


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole answer, as it was stated or normalised, matches the reference, a regular expression of Python's `re`."""

    name: ClassVar[str] = "regex"
    reads_reply: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 for a match; an abstention where matching takes too long.

        Raises:
            DatasetError: the reference is no regular expression.
        """
        read = None if answer is None else extract(answer, kind)
        if answer is None or read is None:
            return _judged("regex", None, reference)
        scores = [_judged("regex", spelling, reference) for spelling in {as_stated(answer, kind).sentence or read, read}]
        if 1.0 in scores:
            return 1.0
        return None if None in scores else 0.0


@dataclass(frozen=True, slots=True)
class Latex:
    """An expression equal to the reference, whatever its form: LaTeX, plain mathematics, sets, intervals, matrices.

    Source: math-verify (Hugging Face), on SymPy.
    """

    name: ClassVar[str] = "latex"
    reads_reply: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 for an equal expression; an abstention where comparing takes too long.

        Raises:
            DatasetError: the reference is no expression.
        """
        return _judged("latex", answer, reference)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that fits the reference, a JSON schema; a fence of backticks round it does not matter. Nothing is fetched."""

    name: ClassVar[str] = "json_schema"
    reads_reply: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 for JSON that fits; an abstention where checking takes too long.

        Raises:
            DatasetError: the reference is no JSON schema, or refers to another that it does not hold.
        """
        return _judged("json_schema", answer, reference)


def _judged(task: str, answer: str | None, reference: str | None) -> float | None:
    if reference is None:
        return None
    return 0.0 if answer is None else _asked(task, answer, reference)


@lru_cache(maxsize=65_536)
def _asked(task: str, answer: str, reference: str) -> float | None:
    """The score; samples of one question repeat their answers, so the same pair is judged once."""
    try:
        return WORKERS.ask(task, answer, reference)
    except TaskError as error:
        raise DatasetError(f"{reference[:80]!r} is no reference for the verifier {task!r} ({error}): correct the task") from error
