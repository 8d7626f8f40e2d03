"""Procedural problems: a question, its answer, and the exact work that leads there.

A `Problem` can show its work (`work()`), and can show work with one slip in it (`work(slip=2)`), the later steps
following from the wrong value as they would for a solver who made that mistake. So correct chains of thought,
wrong attempts for critique and exact step labels all come from the one solver of each family.

Knows nothing of models, prompts or logs. The style of the chains follows Nye et al. 2021 (scratchpads).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rheostat.data.schema import AnswerKind

Split = Literal["train", "heldout"]

HELDOUT_SHARE = 8  # one question text in this many is never shown to a model in training


class Scratch:
    """Where a solver writes its steps; at step `slip` it writes a wrong value and goes on with it."""

    def __init__(self, slip: int | None = None, rng: random.Random | None = None) -> None:
        self.steps: list[str] = []
        self._slip = slip
        self._rng = rng or random.Random(0)
        self.slipped = False

    def number(self, expression: str, value: int, *, sign: str = "=") -> int:
        """Write `expression=value` and return the value written, which is wrong at the slip."""
        if len(self.steps) == self._slip:
            value, self.slipped = self._wrong_number(value), True
        self.steps.append(f"{expression}{sign}{value}")
        return value

    def word(self, prefix: str, value: str, alternatives: list[str]) -> str:
        """Write `prefix value`, or at the slip another of `alternatives`, and return what was written."""
        others = [a for a in alternatives if a != value]
        if len(self.steps) == self._slip and others:
            value, self.slipped = self._rng.choice(others), True
        self.steps.append(f"{prefix} {value}".strip())
        return value

    def _wrong_number(self, value: int) -> int:
        delta = self._rng.choice([-10, -2, -1, 1, 1, 2, 10])
        return value + delta if value + delta >= 0 else value + abs(delta)


Solver = Callable[[Scratch], str]


@dataclass(frozen=True, slots=True)
class Work:
    """A worked solution; `first_wrong` is the index of the first wrong step, None where all are right."""

    steps: tuple[str, ...]
    answer: str
    first_wrong: int | None

    @property
    def text(self) -> str:
        """The chain of thought as a model writes it."""
        return f"{'; '.join(self.steps)}. The answer is {self.answer}."


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its reference answer and the solver that shows the work."""

    family: str
    level: int
    question: str
    answer: str
    kind: AnswerKind
    solve: Solver

    def work(self, *, slip: int | None = None, rng: random.Random | None = None) -> Work:
        """The steps to the answer; with `slip`, an attempt whose step of that index is wrong, where it can be wrong at all."""
        scratch = Scratch(slip, rng)
        answer = self.solve(scratch)
        return Work(tuple(scratch.steps), answer, slip if scratch.slipped else None)

    @property
    def split(self) -> Split:
        """`heldout` for one question text in eight, by hash: the two sides are disjoint by construction."""
        return split_of(self.question)


def split_of(question: str) -> Split:
    """The side a question text is on, the same on every machine and for every seed."""
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    return "heldout" if int.from_bytes(digest, "big") % HELDOUT_SHARE == 0 else "train"
