"""Every strategy on the real engines: what is booked, what is reproducible, what a cancel leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

import pytest

from rheostat.data.errors import BudgetError, UpstreamError
from rheostat.data.schema import Action, Query
from rheostat.demonstration import generated_tokens
from rheostat.policies.backend import VllmBackend
from rheostat.policies.base import Meter
from rheostat.policies.run import Result, run_action
from tests.e2e.conftest import Stack
from tests.policies.make import toolbox

ACTIONS = [
    "pocket/direct@32",
    "pocket-large/cot(style=short)@192",
    "pocket-large/cot(think=12,waits=1)@192",
    "pocket-large/cot(effort=low)@192",
    "pocket-large/few_shot(k=2)@192",
    "pocket/self_consistency(k=6,stop=lead(2))@900",
    "pocket/weighted_vote(k=4,models=pocket+pocket-large)@700",
    "pocket-large/best_of_n(n=4,by=self,enough=0.9)@900",
    "pocket-large/refine(rounds=2)@700",
    "pocket/verify(checker=pocket-large)@600",
    "pocket-large/token_beam(width=3)@120",
    "pocket-large/beam(width=2,expand=2,depth=6,by=logprob,split=clause,step_tokens=32)@700",
    "pocket-large/beam(mode=dvts,width=2,expand=2,depth=6,by=self,split=clause,step_tokens=32)@900",
    "pocket-large/beam(mode=rebase,width=2,expand=2,depth=6,by=prm,agg=prod,split=clause,step_tokens=32)@700",
    "pocket-large/mcts(sims=4,width=2,split=clause,step_tokens=32)@900",
    "pocket/cascade(stages=direct@24>cot@128>pocket-large/self_consistency(k=4),at=0.99)@900",
    "pocket-large/compose(n=4,rounds=1)@1200",
]
QUESTIONS = ("What is 23 + 45?", "Tara has 12 beads. Tara buys 7 more. How many beads does Tara have now?")
IDLE_S = 30.0


async def run(engines: Mapping[str, str], spelling: str, question: str, meter: Meter, **options: float) -> Result:
    async with AsyncExitStack() as stack:
        backends = {model: await stack.enter_async_context(VllmBackend(model, url)) for model, url in engines.items()}
        action, query = Action.parse(spelling), Query.of_text(question, query_id="q")
        return await run_action(action, query, backends, kind="number", seed=7, meter=meter, toolbox=toolbox(), **options)


def is_booked(meter: Meter, counted: int) -> bool:
    """Whether the ledger says what the engines count; a call that ended before its first byte may only be estimated."""
    return meter.ledger.generated == counted or any(attempt.estimated for attempt in meter.attempts)


async def idle(engines: Mapping[str, str]) -> int:
    """Tokens that the engines have generated, once none of them is at work."""
    async with AsyncExitStack() as stack, asyncio.timeout(IDLE_S):
        backends = [await stack.enter_async_context(VllmBackend(model, url)) for model, url in engines.items()]
        while sum([(await backend.metrics())["num_requests_running"] for backend in backends]):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    return generated_tokens(engines.values())


def cap_of(spelling: str) -> int:
    return Action.parse(spelling).max_tokens


@pytest.mark.parametrize("spelling", ACTIONS)
async def test_every_token_the_engines_count_is_in_the_ledger(stack: Stack, spelling: str) -> None:
    before = await idle(stack.engines)
    meters = [Meter(cap_of(spelling)) for _ in QUESTIONS]
    results = [await run(stack.engines, spelling, question, meter) for question, meter in zip(QUESTIONS, meters, strict=True)]

    assert sum(meter.ledger.generated for meter in meters) == await idle(stack.engines) - before > 0
    assert all(meter.ledger.generated <= meter.cap_tokens for meter in meters)
    assert all(result.text and result.stop_reason for result in results)
    assert not any(attempt.estimated for result in results for attempt in result.attempts)


@pytest.mark.parametrize("spelling", ACTIONS)
async def test_the_same_question_seed_and_engine_give_the_same_trace(stack: Stack, spelling: str) -> None:
    one, two = [await run(stack.engines, spelling, QUESTIONS[0], Meter(cap_of(spelling))) for _ in range(2)]

    assert [each.text for each in one.evidence.candidates] == [each.text for each in two.evidence.candidates]
    assert (one.answer, one.stop_reason, one.evidence.chosen) == (two.answer, two.stop_reason, two.evidence.chosen)
    assert [step.text for step in one.evidence.steps] == [step.text for step in two.evidence.steps]


@pytest.mark.parametrize("wait_s", [0.02, 0.1, 0.3])
async def test_a_cancel_frees_the_engines_and_what_they_generated_is_booked(stack: Stack, wait_s: float) -> None:
    # A beam search over tokens tells its count at the end only: cancelled, it is booked at its most.
    for spelling in [each for each in ACTIONS if "token_beam" not in each]:
        before, meter = await idle(stack.engines), Meter(cap_of(spelling))
        task = asyncio.create_task(run(stack.engines, spelling, QUESTIONS[1], meter))
        await asyncio.sleep(wait_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert is_booked(meter, await idle(stack.engines) - before), spelling


@pytest.mark.parametrize("deadline_s", [0.05, 0.2])
async def test_at_a_deadline_everything_is_booked_and_the_cap_holds(stack: Stack, deadline_s: float) -> None:
    for spelling in [each for each in ACTIONS if "token_beam" not in each]:
        before, meter = await idle(stack.engines), Meter(cap_of(spelling))
        try:
            await run(stack.engines, spelling, QUESTIONS[1], meter, deadline_s=deadline_s)
        except (UpstreamError, BudgetError):
            assert meter.attempts or deadline_s < 0.1

        assert is_booked(meter, await idle(stack.engines) - before), spelling
        assert meter.ledger.generated <= meter.cap_tokens


async def test_a_beam_search_cut_short_is_booked_at_its_most(stack: Stack) -> None:
    before, meter = await idle(stack.engines), Meter(300)
    with pytest.raises(UpstreamError):
        await run(stack.engines, "pocket-large/token_beam(width=3)@300", QUESTIONS[1], meter, deadline_s=0.1)

    assert await idle(stack.engines) - before <= meter.ledger.generated <= 300
    assert all(attempt.estimated for attempt in meter.attempts)


async def test_a_dead_engine_is_passed_over_and_costs_nothing(stack: Stack) -> None:
    engines = {**stack.engines, "gone": "http://127.0.0.1:9"}
    before, meter = await idle(stack.engines), Meter(600)
    result = await run(engines, "pocket/cascade(stages=gone/cot>pocket-large/cot)@600", QUESTIONS[0], meter)

    assert result.candidate.model == "pocket-large"
    assert meter.ledger.generated == await idle(stack.engines) - before


async def test_waves_save_what_they_report(stack: Stack) -> None:
    booked, counted = [], []
    for stop in ("", ",stop=beta(0.95)"):
        before, spent = await idle(stack.engines), 0
        for at in range(8):
            meter = Meter(3072)
            await run(stack.engines, f"pocket-large/self_consistency(k=16{stop})@3072", f"What is {at} + {at + 3}?", meter)
            spent += meter.ledger.generated
        booked.append(spent)
        counted.append(await idle(stack.engines) - before)

    assert booked == counted
    assert counted[1] < counted[0]
