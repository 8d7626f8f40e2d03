"""The built-in problems: sixteen families at four levels, made on the fly with known answers and steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from rheostat.data.problems.arithmetic import addition, chain, multiplication, remainder, sequence, subtraction
from rheostat.data.problems.base import Problem, Split, Work, split_of
from rheostat.data.problems.everyday import clock, comparison, logic, units, weekday
from rheostat.data.problems.letters import counting, reversing, sorting
from rheostat.data.problems.stories import shopping, story

__all__ = ["FAMILIES", "LEVELS", "Problem", "Split", "Work", "problems", "split_of"]

LEVELS = (1, 2, 3, 4)
FAMILIES: dict[str, Callable[[random.Random, int], Problem]] = {
    "addition": addition,
    "subtraction": subtraction,
    "multiplication": multiplication,
    "remainder": remainder,
    "chain": chain,
    "sequence": sequence,
    "story": story,
    "shopping": shopping,
    "sorting": sorting,
    "reversing": reversing,
    "counting": counting,
    "comparison": comparison,
    "weekday": weekday,
    "clock": clock,
    "units": units,
    "logic": logic,
}


def problems(split: Split, seed: int) -> Iterator[Problem]:
    """Endless problems of one split, families and levels drawn evenly; the same for the same seed."""
    rng = random.Random(f"{split}-{seed}")
    names = sorted(FAMILIES)
    while True:
        problem = FAMILIES[rng.choice(names)](rng, rng.choice(LEVELS))
        if problem.split == split:
            yield problem
