"""The parallel strategies: many samples in waves, then a vote or the best of them.

A wave is one request of n samples, which share the prompt's prefix cache. Every wave yields evidence; whoever
consumes it decides on the next one. Sources: Wang et al., 2022 (self-consistency); Cobbe et al., 2021 (best of n).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import ClassVar, NamedTuple

from msgspec.structs import replace

from rheostat.data.errors import ActionError, BudgetError, UpstreamError
from rheostat.data.schema import Query
from rheostat.policies.asking import ask, share
from rheostat.policies.base import Candidate, Context, Evidence, StopRule
from rheostat.policies.evidence import candidate, count_votes, elect, in_order
from rheostat.policies.prompts import step_by_step
from rheostat.policies.stopping import parse_rule

MAX_TEMPERATURE = 2.0  # the engine refuses more
MAX_SAMPLES = 256
PERFECT = 1.0


class SelfConsistency:
    """self_consistency(k): k chains of thought, and the answer most of them give.

    `stop` is the rule that ends sampling early, as in `beta(0.95)`; none draws all k. `waves` are the sizes of the
    requests, as in `2+2+4`, the last one repeating; none leaves them to the context.
    """

    name: ClassVar[str] = "self_consistency"
    single_call: ClassVar[bool] = False

    def __init__(self, k: int, temperature: float = 0.8, stop: str = "", waves: str = "") -> None:
        self.k = _samples(self.name, "k", k)
        self.temperature = _temperature(self.name, temperature)
        self.rule: StopRule | None = parse_rule(stop) if stop else None
        self.waves = parse_waves(waves)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the vote after every wave."""
        async for wave in _draw(query, context, Draw(self.k, self.temperature, self.waves)):
            votes = count_votes(wave.candidates)
            why = f"{votes.v1} of {votes.drawn} votes" if votes.v1 else "no sample could be parsed: the first one"
            yield replace(wave, chosen=elect(wave.candidates), why=why)


class BestOfN:
    """best_of_n(n): n chains of thought, and the one that is best by a verifier or by mean log-probability.

    Whatever the measure, a sample with an answer goes before one without.
    """

    name: ClassVar[str] = "best_of_n"
    single_call: ClassVar[bool] = False
    ways: ClassVar[tuple[str, ...]] = ("logprob", "verifier")

    def __init__(self, n: int, by: str = "logprob", temperature: float = 0.8, stop: str = "", waves: str = "") -> None:
        if by not in self.ways:
            raise ActionError(f"best_of_n(by={by}) is unknown: known are {', '.join(self.ways)}")
        self.n = _samples(self.name, "n", n)
        self.by = by
        self.temperature = _temperature(self.name, temperature)
        self.rule: StopRule | None = parse_rule(stop) if stop else None
        self.waves = parse_waves(waves)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the best so far after every wave; a perfect score cannot be beaten and is the last.

        Raises:
            ActionError: by a verifier, and the context has no scorer.
        """
        by_verifier = self.by == "verifier"
        scores = _Scores(query, context) if by_verifier else None
        async for wave in _draw(query, context, Draw(self.n, self.temperature, self.waves, logprobs=not by_verifier)):
            ranked = await scores.given(wave.candidates) if scores else wave.candidates
            chosen = max(range(len(ranked)), key=lambda at: (_merit(ranked[at], self.by), -at))
            perfect = ranked[chosen].score == PERFECT
            why = f"best of {len(ranked)} by {self.by}"
            yield replace(wave, candidates=ranked, chosen=chosen, why=why, last=wave.last or perfect)


class Draw(NamedTuple):
    """What to draw: at most `k` samples in waves of these sizes; no sizes leave them to the context."""

    k: int
    temperature: float
    waves: tuple[int, ...] = ()
    logprobs: bool = False


def parse_waves(spelling: str) -> tuple[int, ...]:
    """The wave sizes of a spelling like `2+2+4`; the empty one leaves them open.

    Raises:
        ActionError: not positive whole numbers joined by `+`.
    """
    parts = str(spelling).split("+") if spelling else []
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ActionError(f"waves={spelling!r} cannot be read: write sizes joined by '+', as in 2+2+4")
    return tuple(int(part) for part in parts)


def wave_sizes(total: int, waves: Sequence[int]) -> Iterator[int]:
    """How many samples to draw in each wave until `total`; the last size repeats, no sizes are one wave of all."""
    drawn = at = 0
    while drawn < total:
        size = waves[min(at, len(waves) - 1)] if waves else total
        yield min(size, total - drawn)
        drawn, at = drawn + size, at + 1


async def _draw(query: Query, context: Context, draw: Draw) -> AsyncIterator[Evidence]:
    """Yield all candidates so far after every wave, nothing chosen yet.

    Greedy samples are all the same, so a client that fixed temperature 0 gets one.
    """
    planned = 1 if query.sampling.temperature == 0 else draw.k
    candidates: tuple[Candidate, ...] = ()
    submitted = 0
    for size in wave_sizes(planned, draw.waves or context.waves):
        left = context.left_tokens()
        # Under a cap of fewer tokens than samples, fewer samples of one token each: the cap comes first.
        n = min(size, max(1, left))
        request = ask(
            query,
            context,
            how=step_by_step,
            max_tokens=share(query, left, planned - submitted),
            temperature=draw.temperature,
            n=n,
            first=submitted,
        )
        generation = await context.call(replace(request, logprobs=draw.logprobs))
        # Samples may be missing where a stream broke; the others keep their place in submission order.
        arrived = [candidate(c, index=submitted + c.index, model=context.model, kind=context.kind) for c in generation.completions]
        candidates = in_order([*candidates, *arrived])
        submitted += n
        last = submitted >= planned or context.left_tokens() < 1
        yield Evidence(candidates=candidates, chosen=0, why="", planned=planned, last=last)
        if last:
            return


class _Scores:
    """The scorer's verdict for every distinct answer, asked once each."""

    def __init__(self, query: Query, context: Context) -> None:
        if context.scorer is None:
            raise ActionError("best_of_n(by=verifier) has no scorer to ask: pass one, or take by=logprob")
        self._query = query
        self._context = context
        self._scorer = context.scorer
        self._by_answer: dict[str, float | None] = {}

    async def given(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The candidates with their scores; once one is perfect the rest is not worth a call."""
        for each in candidates:
            if each.answer is not None and each.answer not in self._by_answer:
                self._by_answer[each.answer] = await self._score(each)
            if each.answer is not None and self._by_answer[each.answer] == PERFECT:
                break
        return tuple(replace(each, score=self._by_answer.get(each.answer or "")) for each in candidates)

    async def _score(self, each: Candidate) -> float | None:
        """The score; a scorer that fails, or does not fit under the cap, abstains."""
        try:
            return await self._scorer.score(self._query, each, self._context.call)
        except (BudgetError, UpstreamError):
            return None


def _merit(each: Candidate, by: str) -> tuple[bool, float]:
    value = each.score if by == "verifier" else each.mean_logprob
    return each.answer is not None, -math.inf if value is None or math.isnan(value) else value


def _samples(strategy: str, name: str, value: int) -> int:
    if not 1 <= value <= MAX_SAMPLES:
        raise ActionError(f"{strategy}({name}={value}) is out of range: {name} is from 1 to {MAX_SAMPLES}")
    return value


def _temperature(strategy: str, value: float) -> float:
    if not 0.0 < value <= MAX_TEMPERATURE:
        raise ActionError(
            f"{strategy}(temperature={value}) is out of range: above 0, at most {MAX_TEMPERATURE:g}; at 0 all samples are the same"
        )
    return value
