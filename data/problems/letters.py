"""Letter families: sorting, reversing and counting. Letters are separated by spaces."""

from __future__ import annotations

import random
import string

from rheostat.data.problems.base import Problem, Scratch, Solver

LENGTHS = (3, 4, 5, 7)


def sorting(rng: random.Random, level: int) -> Problem:
    """Put letters in alphabetical order, by taking the first one left again and again."""
    letters = rng.sample(string.ascii_lowercase, LENGTHS[level - 1])
    shown = " ".join(letters)
    question = rng.choice(
        [
            f"Sort these letters alphabetically: {shown}",
            f"Put the letters {shown} in alphabetical order.",
            f"Arrange {shown} from a to z.",
            f"What is the alphabetical order of {shown}?",
        ]
    )
    return Problem("sorting", level, question, " ".join(sorted(letters)), "text", _take_smallest(letters))


def _take_smallest(letters: list[str]) -> Solver:
    def solve(scratch: Scratch) -> str:
        left, taken = list(letters), []
        while left:
            chosen = scratch.word(f"{' '.join(left)}:", min(left), left)
            left.remove(chosen)
            taken.append(chosen)
        return " ".join(taken)

    return solve


def reversing(rng: random.Random, level: int) -> Problem:
    """Write letters backwards, one at a time."""
    letters = [rng.choice(string.ascii_lowercase) for _ in range(LENGTHS[level - 1])]
    shown = " ".join(letters)
    question = rng.choice(
        [
            f"Reverse the letters: {shown}",
            f"Write {shown} backwards.",
            f"What is {shown} read from right to left?",
            f"Turn the order of {shown} around.",
        ]
    )
    return Problem("reversing", level, question, " ".join(reversed(letters)), "text", _from_the_end(letters))


def _from_the_end(letters: list[str]) -> Solver:
    def solve(scratch: Scratch) -> str:
        count = len(letters)
        return " ".join(scratch.word(str(i), letters[i - 1], letters) for i in range(count, 0, -1))

    return solve


def counting(rng: random.Random, level: int) -> Problem:
    """How often a letter occurs in a row of letters, with a running count."""
    alphabet = rng.sample(string.ascii_lowercase, 3)
    letters = [rng.choice(alphabet) for _ in range(2 * LENGTHS[level - 1])]
    target, shown = alphabet[0], " ".join(letters)
    question = rng.choice(
        [
            f"How many times does the letter {target} occur in: {shown}?",
            f"Count the letter {target} in {shown}.",
            f"In the row {shown}, how often do you see {target}?",
            f"What is the number of {target} in {shown}?",
        ]
    )
    return Problem("counting", level, question, str(letters.count(target)), "number", _tally(letters, target))


def _tally(letters: list[str], target: str) -> Solver:
    def solve(scratch: Scratch) -> str:
        count = 0
        for letter in letters:
            count = scratch.number(letter, count + (letter == target), sign=" ")
        return str(count)

    return solve
