"""Problems as dialogues: what a user writes and what a good solver replies, for every way of asking.

These are the only places where the wording of instructions to the pocket models is written down; strategies use the
same sentences for every model, since larger models read them just as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from rheostat.data.problems.base import Problem, Work

ANSWER_ONLY = "Answer only."
STEP_BY_STEP = "Think step by step."
CHECK = "Check this attempt."
REVISE = "Revise the attempt."


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Alternating user and assistant turns; the last turn, the assistant's, is the one to learn."""

    turns: tuple[str, ...]


def direct(problem: Problem) -> Dialogue:
    """The answer and nothing else."""
    return Dialogue((f"{problem.question} {ANSWER_ONLY}", problem.answer))


def step_by_step(problem: Problem) -> Dialogue:
    """The steps, then the answer."""
    return Dialogue((f"{problem.question} {STEP_BY_STEP}", problem.work().text))


def plain(problem: Problem) -> Dialogue:
    """No instruction: a solver shows its work."""
    return Dialogue((problem.question, problem.work().text))


def check(problem: Problem, attempt: Work) -> Dialogue:
    """Verify an attempt: name its first wrong step, or approve it."""
    return Dialogue((f"{problem.question} Attempt: {attempt.text} {CHECK}", critique(problem, attempt)))


def revise(problem: Problem, attempt: Work) -> Dialogue:
    """Given an attempt and its critique, write the solution again, right this time."""
    asked = f"{problem.question} Attempt: {attempt.text} Critique: {critique(problem, attempt)} {REVISE}"
    return Dialogue((asked, problem.work().text))


def critique(problem: Problem, attempt: Work) -> str:
    """`Correct.`, or the first wrong step and what it should be."""
    if attempt.first_wrong is None:
        return "Correct."
    at = attempt.first_wrong
    return f"Wrong: {attempt.steps[at]} should be {problem.work().steps[at]}."


def with_examples(examples: list[Dialogue], asked: Dialogue) -> Dialogue:
    """Solved examples as earlier turns of the same conversation."""
    return Dialogue(tuple(turn for d in [*examples, asked] for turn in d.turns))


def attempt(problem: Problem, rng: random.Random) -> Work:
    """A solution that has a slip two times in three."""
    steps = len(problem.work().steps)
    return problem.work(slip=rng.randrange(steps) if rng.random() < 2 / 3 else None, rng=rng)


def training_dialogue(problem: Problem, rng: random.Random, neighbour: Problem) -> Dialogue:
    """One dialogue for training, the kinds mixed in the shares that a small solver needs."""
    kind = rng.random()
    if kind < 0.15:
        return direct(problem)
    if kind < 0.80:
        return step_by_step(problem)
    if kind < 0.83:
        return plain(problem)
    if kind < 0.86:
        return with_examples([step_by_step(neighbour)], step_by_step(problem))
    tried = attempt(problem, rng)
    return check(problem, tried) if kind < 0.93 else revise(problem, tried)
