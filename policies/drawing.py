"""Samples in waves: one request of n samples for each model, all candidates so far after every wave.

Knows how to draw, not what to choose. A wave is one request, since its samples share the prompt's prefix cache.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from rheostat.data.errors import ActionError
from rheostat.data.schema import Query
from rheostat.policies.asking import Ask, ask, share
from rheostat.policies.base import Candidate, Context, Evidence, Strategy
from rheostat.policies.clusters import Clusters
from rheostat.policies.evidence import candidate, in_order
from rheostat.policies.prompts import step_by_step
from rheostat.policies.structured import asks_for_json
from rheostat.policies.together import succeeded

EARLY_WAVES = (2, 2, 4)  # where something may end sampling early


class Draw(NamedTuple):
    """What to draw: at most `k` samples in waves of these sizes; no sizes leave them to the context.

    With several `models` sample i is drawn from model i modulo their number; none is the context's own.
    """

    k: int
    temperature: float
    waves: tuple[int, ...] = ()
    logprobs: bool = False
    models: tuple[str, ...] = ()
    how: Ask = step_by_step


def parse_waves(spelling: str) -> tuple[int, ...]:
    """The wave sizes of a spelling like `2+2+4`; the empty one leaves them open.

    Raises:
        ActionError: not positive whole numbers joined by `+`.
    """
    parts = str(spelling).split("+") if spelling else []
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ActionError(f"waves={spelling!r} cannot be read: write sizes joined by '+', as in 2+2+4")
    return tuple(int(part) for part in parts)


def may_end_early(strategy: Strategy) -> bool:
    """Whether its stop rule or a score may end a strategy's sampling before all is drawn."""
    return getattr(strategy, "rule", None) is not None or bool(getattr(strategy, "ends_early", False))


def wave_sizes(total: int, waves: Sequence[int]) -> Iterator[int]:
    """How many samples to draw in each wave until `total`; the last size repeats, no sizes are one wave of all."""
    drawn = at = 0
    while drawn < total:
        size = waves[min(at, len(waves) - 1)] if waves else total
        yield min(size, total - drawn)
        drawn, at = drawn + size, at + 1


async def draw(query: Query, context: Context, plan: Draw) -> AsyncIterator[Evidence]:
    """Yield all candidates so far after every wave, nothing chosen yet.

    Greedy samples are all the same, so a client that fixed temperature 0 gets one of each model.
    """
    planned = max(1, len(plan.models)) if query.sampling.temperature == 0 else plan.k
    clusters = _clusters(query, context)
    candidates: tuple[Candidate, ...] = ()
    submitted = 0
    for size in wave_sizes(planned, plan.waves or context.waves):
        left = context.left_tokens()
        # Under a cap of fewer tokens than samples, fewer samples of one token each: the cap comes first.
        n = min(size, max(1, left))
        arrived = await _wave(query, context, plan, Span(submitted, n, share(query, left, planned - submitted)))
        candidates = in_order([*candidates, *(clusters.with_answers(arrived) if clusters else arrived)])
        submitted += n
        last = submitted >= planned or context.left_tokens() < 1
        yield Evidence(candidates=candidates, chosen=0, why="", planned=planned, last=last)
        if last:
            return


def _clusters(query: Query, context: Context) -> Clusters | None:
    """Groups of free texts; None where answers are data, since a text that is no JSON or no call is no answer there."""
    is_data = asks_for_json(query.sampling.extra) or bool(query.sampling.extra.get("tools"))
    return Clusters(context.toolbox.embed) if context.kind == "text" and context.toolbox.embed and not is_data else None


class Span(NamedTuple):
    """`n` samples from number `first` on, each of at most `max_tokens`."""

    first: int
    n: int
    max_tokens: int


async def _wave(query: Query, context: Context, plan: Draw, span: Span) -> list[Candidate]:
    """The candidates that came; those of a model that failed are missing, as long as another's came."""
    models = plan.models or (context.model,)
    places = {model: [at for at in range(span.first, span.first + span.n) if at % len(models) == i] for i, model in enumerate(models)}
    calls = [_drawn(query, context, plan, model, at, span.max_tokens) for model, at in places.items() if at]
    return [each for drawn in await succeeded(calls) for each in drawn or []]


async def _drawn(query: Query, context: Context, plan: Draw, model: str, places: list[int], max_tokens: int) -> list[Candidate]:
    """One model's samples of a wave, each in its place in submission order."""
    request = ask(
        query, context, how=plan.how, max_tokens=max_tokens, temperature=plan.temperature, n=len(places), first=places[0]
    )  # fmt: skip
    generation = await context.call(replace(request, model=model, logprobs=plan.logprobs or context.logprobs))
    # Samples may be missing where a stream broke; the others keep their place.
    return [
        candidate(each, index=places[each.index], model=model, kind=context.kind, asked=query.sampling.extra)
        for each in generation.completions
    ]
