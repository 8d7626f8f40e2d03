"""Verifiers that compare an answer with a reference: exact, numeric, choice, yes or no. Knows nothing of expressions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from rheostat.data.answers import normal_reference, normalise, number, same
from rheostat.data.schema import AnswerKind


@dataclass(frozen=True, slots=True)
class Exact:
    """The same answer after normalisation, whatever its kind; of a text all lines of the reference count."""

    name: ClassVar[str] = "exact"
    reads_reply: ClassVar[bool] = False
    is_slow: ClassVar[bool] = False

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 for the same answer, else 0.0."""
        if reference is None:
            return None
        expected = normal_reference(reference, kind)
        return float(answer is not None and expected is not None and normalise(answer, kind) == expected)


@dataclass(frozen=True, slots=True)
class Numeric:
    """A number within a relative or absolute tolerance of the reference, as rounding needs it."""

    name: ClassVar[str] = "numeric"
    reads_reply: ClassVar[bool] = False
    is_slow: ClassVar[bool] = False
    relative: float = 1e-4
    absolute: float = 1e-9

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 within the larger tolerance; an abstention where the reference is no number."""
        expected = None if reference is None else number(reference)
        if expected is None:
            return None
        got = None if answer is None else number(answer)
        return float(got is not None and abs(got - expected) <= max(self.absolute, self.relative * abs(expected)))


@dataclass(frozen=True, slots=True)
class Choice:
    """The letter of a lettered option; the option's own text counts as its letter."""

    name: ClassVar[str] = "choice"
    reads_reply: ClassVar[bool] = False
    is_slow: ClassVar[bool] = False

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 for the reference's letter; an abstention where the reference names no letter."""
        expected = None if reference is None else normalise(reference, "choice")
        if expected is None:
            return None
        if answer is None:
            return 0.0
        return float(_letter_of(answer, question) == expected)


_OPTION = re.compile(r"\(([A-Za-z])\)\s?([^()\n]{1,200})")


def _letter_of(answer: str, question: str) -> str | None:
    wanted = normalise(answer, "text")
    for letter, option in _OPTION.findall(question):
        if wanted is not None and normalise(option, "text") == wanted:
            return str(letter).upper()
    return normalise(answer, "choice")


@dataclass(frozen=True, slots=True)
class YesNo:
    """Yes or no; true and false count as such."""

    name: ClassVar[str] = "yesno"
    reads_reply: ClassVar[bool] = False
    is_slow: ClassVar[bool] = False

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 for the same side; an abstention where the reference is neither."""
        if reference is None or normalise(reference, "yesno") is None:
            return None
        return float(answer is not None and same(answer, reference, "yesno"))
