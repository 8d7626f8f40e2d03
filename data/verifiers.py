"""Verifiers: question, answer and reference in, a score out; deterministic, and none generates a token.

An unparsed answer (None) scores 0.0. A missing reference is an abstention: None, never a default score.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import msgspec

from rheostat.data.answers import normalise, number, same
from rheostat.data.errors import ConfigError, DatasetError
from rheostat.data.schema import AnswerKind

GYM_PREFIX = "reasoning_gym/"


class Verifier(Protocol):
    """Scores one answer against a reference."""

    name: ClassVar[str]

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:
        """The score in [0, 1], where 1.0 means solved; None for an abstention."""
        ...


@dataclass(frozen=True, slots=True)
class Exact:
    """The same answer after normalisation, whatever its kind."""

    name: ClassVar[str] = "exact"

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 for the same answer, else 0.0."""
        if reference is None:
            return None
        return float(answer is not None and same(answer, reference, kind))


@dataclass(frozen=True, slots=True)
class Numeric:
    """A number within a relative or absolute tolerance of the reference, as rounding needs it."""

    name: ClassVar[str] = "numeric"
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

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 for the same side; an abstention where the reference is neither."""
        if reference is None or normalise(reference, "yesno") is None:
            return None
        return float(answer is not None and same(answer, reference, "yesno"))


class GymReference(msgspec.Struct, frozen=True, kw_only=True):
    """What a reasoning-gym scorer needs: where its entry is made, and the answer it must then have.

    The entry is made again rather than stored, because its metadata does not survive JSON (tuples, dates, sets).
    """

    gym: str
    seed: int
    size: int
    index: int
    answer: str | None

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()


@dataclass(frozen=True, slots=True)
class ReasoningGym:
    """The scorer that comes with a reasoning-gym data set. Solved means its score is 1.0; partial credit is 0.0."""

    name: ClassVar[str] = "reasoning_gym"

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 when solved; also for the data set's own answer in another spelling.

        Raises:
            DatasetError: the reference is not that of a reasoning-gym task, or the installed version makes another one.
        """
        if reference is None:
            return None
        gym = gym_reference(reference)
        if answer is None:
            return 0.0
        if gym.answer is not None and same(answer, gym.answer, kind):
            return 1.0
        dataset = gym_dataset(gym.gym, gym.seed, gym.size)
        entry = dataset[gym.index]
        if entry["answer"] != gym.answer:
            raise DatasetError(
                f"reasoning_gym task {gym.gym}[{gym.index}] is not the one that was logged: "
                "install the version of reasoning-gym it was made with"
            )
        return float(dataset.score_answer(answer, entry) >= 1.0)


def gym_reference(reference: str) -> GymReference:
    """Read back what `str(GymReference)` wrote.

    Raises:
        DatasetError: it is something else.
    """
    try:
        return msgspec.json.decode(reference, type=GymReference)
    except msgspec.DecodeError as error:
        raise DatasetError(f"{reference[:80]!r} is no reference of a reasoning_gym task ({error}): use the verifier 'exact'") from error


@lru_cache(maxsize=32)
def gym_dataset(name: str, seed: int, size: int) -> Any:
    """The reasoning-gym data set of that name; the same entries for the same seed and size."""
    import reasoning_gym

    return reasoning_gym.create_dataset(name, seed=seed, size=size)


VERIFIERS: dict[str, Verifier] = {
    "exact": Exact(),
    "numeric": Numeric(),
    "choice": Choice(),
    "yesno": YesNo(),
    "reasoning_gym": ReasoningGym(),
}


def verifier(name: str) -> Verifier:
    """The verifier of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    try:
        return VERIFIERS[name]
    except KeyError:
        raise ConfigError(f"unknown verifier {name!r}: use one of {', '.join(VERIFIERS)}") from None


def verifier_of(dataset: str) -> Verifier:
    """The verifier that grades a data set: its own scorer for reasoning-gym, else exact."""
    return VERIFIERS["reasoning_gym" if dataset.startswith(GYM_PREFIX) else "exact"]
