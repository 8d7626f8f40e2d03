"""A process of reasoning with known truth: what each step is worth, who notices mistakes, and how often they are put right.

A reply is `depth` steps, each one of `branch` ways; a path is a tuple of ways, and its chance of ending in the right answer is
known exactly. So a search can be held to what its paper promises, with a perfect reward model at hand. The model also
checks and revises attempts, with known skill. Knows no strategy.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rheostat.data.ledger import Ledger
from rheostat.data.problems.dialogues import CHECK, REVISE
from rheostat.data.schema import Attempt, Query, message_text
from rheostat.policies.base import Booking, Call, Candidate, Completion, GenerateRequest, Generation

Ways = tuple[int, ...]
_STEP = re.compile(r"step (\d+)")
_ANSWER = re.compile(r"The answer is (\d+)\.")


@dataclass(frozen=True)
class Process:
    """Steps whose ways are drawn evenly, and what a finished path is worth.

    Attributes:
        depth: steps before the answer.
        branch: ways to take each step.
        worth: a whole path -> its worth in [0, 1]; the right answer's is 1.
        notices: chance that a check finds a wrong attempt wrong.
        doubts: chance that a check finds a right attempt wrong.
        mends: chance that a revision of an attempt found wrong is right.
    """

    depth: int = 3
    branch: int = 3
    worth: Callable[[Ways], float] = lambda ways: float(not any(ways))
    notices: float = 1.0
    doubts: float = 0.0
    mends: float = 0.5

    @property
    def right(self) -> str:
        """The right answer: that of the path of all zeros, the first way at each step."""
        return self.answer((0,) * self.depth)

    def answer(self, ways: Ways) -> str:
        """The answer of a whole path: its number in base `branch`, from 1, so that different paths answer differently."""
        return str(1 + sum(way * self.branch**at for at, way in enumerate(ways)))

    def value(self, ways: Ways) -> float:
        """The expected worth of a path that begins with these ways and goes on at random."""
        if len(ways) == self.depth:
            return self.worth(ways)
        return sum(self.value((*ways, way)) for way in range(self.branch)) / self.branch


def read_ways(text: str) -> Ways:
    """The ways a text has taken so far."""
    return tuple(int(way) for way in _STEP.findall(text))


class SimulatedBackend:
    """Speaks as the process does: steps on lines of their own, then the answer. One word is one token.

    `generated_tokens` counts everything generated.
    """

    def __init__(self, process: Process, name: str = "simulated") -> None:
        self.name = name
        self.process = process
        self.generated_tokens = 0

    async def generate(self, request: GenerateRequest, book: Booking) -> Generation:
        """Run one call; see `base.Backend`."""
        completions = tuple(self._completion(request, index) for index in range(request.n))
        tokens = sum(each.completion_tokens for each in completions)
        self.generated_tokens += tokens
        attempt = Attempt(
            model=request.model, kind="completion", status="ok", ledger=Ledger(calls=1, completion=tokens), latency_s=0.0, n=request.n
        )
        book.book(attempt)
        return Generation(completions=completions, attempt=attempt)

    async def close(self) -> None:
        """Nothing to release."""

    def _completion(self, request: GenerateRequest, index: int) -> Completion:
        asked = message_text(request.messages[-1])
        greedy = request.temperature == 0
        rng = random.Random(f"{asked}|{request.prefill}|{0 if greedy else (request.seed or 0) + index}")
        text = self._said(asked, request.prefill, rng)
        words = re.findall(r"\S+\s*", text)
        cut = words[: request.max_tokens]
        stopped = _stopped("".join(cut), request.stop)
        tokens = len(re.findall(r"\S+", stopped))
        whole = len(cut) == len(words) or stopped != "".join(cut)
        return Completion(
            index=index, text=stopped, completion_tokens=tokens, finish_reason="stop" if whole else "length", mean_logprob=-0.5
        )

    def _said(self, asked: str, begun: str, rng: random.Random) -> str:
        if asked.endswith(CHECK):
            return self._checked(asked, rng)
        if asked.endswith(REVISE) and rng.random() < self.process.mends:
            return self._told((0,) * self.process.depth, begun)
        ways = read_ways(begun)
        drawn = tuple(rng.randrange(self.process.branch) for _ in range(self.process.depth - len(ways)))
        return self._told((*ways, *drawn), begun)

    def _checked(self, asked: str, rng: random.Random) -> str:
        found = _ANSWER.findall(asked)
        is_right = bool(found) and found[-1] == self.process.right
        finds_fault = rng.random() < (self.process.doubts if is_right else self.process.notices)
        return "Wrong: look again." if finds_fault else "Correct."

    def _told(self, ways: Ways, begun: str) -> str:
        """The part of the whole reply that is still to be said."""
        lines = [f"step {way}\n" for way in ways[len(read_ways(begun)) :]]
        return "".join([*lines, f"The answer is {self.process.answer(ways)}."])


class OracleSteps:
    """prm: the true value of every beginning, and the true worth of what is whole. A perfect process reward model."""

    name = "prm"

    def __init__(self, process: Process) -> None:
        self._process = process

    async def steps(self, query: Query, steps: Sequence[str], call: Call) -> tuple[float, ...] | None:  # noqa: ARG002
        """The value after each step; see `base.StepScorer`."""
        return tuple(self._process.value(read_ways("".join(steps[: at + 1]))) for at in range(len(steps)))

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:  # noqa: ARG002
        """The worth of a whole answer; see `base.Scorer`."""
        return self._process.value(read_ways(candidate.text))


def _stopped(text: str, stops: Sequence[str]) -> str:
    """The text up to and with the first stop string."""
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text
