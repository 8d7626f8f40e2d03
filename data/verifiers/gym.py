"""The scorers of reasoning-gym, and how one of its tasks is written down as a reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import msgspec

from rheostat.data.answers import as_stated, extract, normalise, same
from rheostat.data.errors import DatasetError
from rheostat.data.schema import AnswerKind

GYM_PREFIX = "reasoning_gym/"


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
    reads_reply: ClassVar[bool] = True
    is_slow: ClassVar[bool] = False

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 when solved; also for the data set's own answer of one line in another spelling.

        Raises:
            DatasetError: the reference is not that of a reasoning-gym task, or the installed version makes another one.
        """
        if reference is None:
            return None
        gym = gym_reference(reference)
        if answer is None or not answer.strip():
            return 0.0
        read = extract(answer, kind) or normalise(answer, kind)
        if read is not None and gym.answer is not None and "\n" not in gym.answer.strip() and same(read, gym.answer, kind):
            return 1.0
        dataset = gym_dataset(gym.gym, gym.seed, gym.size)
        entry = dataset[gym.index]
        if entry["answer"] != gym.answer:
            raise DatasetError(
                f"reasoning_gym task {gym.gym}[{gym.index}] is not the one that was logged: "
                "install the version of reasoning-gym it was made with"
            )
        return float(any(_solves(dataset, entry, spelling) for spelling in _spellings(answer, read, kind)))


def _spellings(reply: str, read: str | None, kind: AnswerKind) -> list[str]:
    """The answer as it was stated and as it was read; all its lines only of a text, for some scorers find a number anywhere."""
    stated = as_stated(reply, kind)
    spellings = (stated.passage if kind == "text" else "", stated.sentence, read or "")
    return [spelling for spelling in dict.fromkeys(spellings) if spelling]


def _solves(dataset: Any, entry: Any, answer: str) -> bool:
    try:
        return float(dataset.score_answer(answer, entry)) >= 1.0
    except (ArithmeticError, LookupError, TypeError, ValueError):  # some scorers parse an answer without a guard
        return False


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
