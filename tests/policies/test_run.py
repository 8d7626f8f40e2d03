import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import ActionError, BudgetError, UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.problems.dialogues import CHECK
from rheostat.data.schema import Action, Sampling, message_text
from rheostat.policies.base import GenerateRequest, Generation, Meter
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.run import Caller, Clock, Result, run_action
from rheostat.policies.stopping import Fixed, parse_rule
from tests.policies import make

FAULTS = ["ok", "refuse", "error", "break", "partial", "empty", "garbage", "endless"]
SPELLINGS = [
    "m/direct@{}",
    "m/cot@{}",
    "m/cot(think=20,waits=2)@{}",
    "m/few_shot(k=2)@{}",
    "m/self_consistency(k=7)@{}",
    "m/self_consistency(k=5,waves=1+2)@{}",
    "m/self_consistency(k=9,stop=lead(2))@{}",
    "m/weighted_vote(k=5,by=self,models=m+n,waves=2)@{}",
    "m/best_of_n(n=6,waves=3)@{}",
    "m/refine(rounds=3)@{}",
    "m/verify(checker=n,rounds=2)@{}",
    "m/token_beam(width=3)@{}",
    "m/beam(width=2,expand=2,depth=3,by=logprob,step_tokens=9)@{}",
    "m/beam(mode=dvts,width=2,expand=2,depth=3,by=self,agg=min,step_tokens=9,pick=vote)@{}",
    "m/beam(mode=rebase,width=2,expand=3,depth=4,by=prm,agg=prod,step_tokens=9)@{}",
    "m/mcts(sims=5,width=2,depth=3,step_tokens=9)@{}",
    "m/mcts(sims=4,width=2,by=self,pick=vote,split=clause,step_tokens=9)@{}",
    "m/cascade(stages=direct@30>n/cot>self_consistency(k=4,stop=lead(2)),at=0.9+0.6)@{}",
    "m/compose(n=4,rounds=2,waves=2)@{}",
]
spellings = st.sampled_from(SPELLINGS)


async def run(spelling, backend, query=None, **options):
    options = {"kind": "number", "seed": 1, "toolbox": make.toolbox()} | options
    return await run_action(Action.parse(spelling), query or make.question(), {"m": backend, "n": backend}, **options)


@settings(deadline=None, max_examples=150)
@given(spellings, st.integers(1, 400), st.lists(st.sampled_from(FAULTS), min_size=1, max_size=6), st.one_of(st.none(), st.integers(1, 60)))
def test_never_over_the_cap_and_all_that_was_generated_is_booked(spelling, cap, faults, max_tokens):
    backend, meter = FakeBackend(faults=faults), Meter(cap)
    query = make.question(sampling=Sampling(max_tokens=max_tokens))

    async def attempt():
        try:
            return await run(spelling.format(cap), backend, query, meter=meter)
        except UpstreamError as error:
            return error

    ended = asyncio.run(attempt())
    assert ended.attempts == tuple(meter.attempts)
    assert meter.ledger.generated == backend.generated_tokens <= cap
    assert sum((a.ledger for a in meter.attempts), Ledger()) == meter.ledger
    assert meter.left_tokens == cap - meter.ledger.generated
    replies = [request for request in backend.requests if not message_text(request.messages[-1]).endswith(CHECK)]
    assert all(request.max_tokens <= (max_tokens or cap) for request in replies)
    if isinstance(ended, Result):
        assert all(each.tokens <= (max_tokens or cap) for each in ended.evidence.candidates)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 40), spellings, st.integers(0, 4))
def test_a_cancelled_run_has_booked_everything_before_it_ends(steps, spelling, healthy):
    backend, meter = FakeBackend(faults=[*["ok"] * healthy, "hang"]), Meter(900)

    async def cancel():
        task = asyncio.create_task(run(spelling.format(900), backend, meter=meter, waves=(2,)))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    assert meter.ledger.generated == backend.generated_tokens
    assert len(meter.attempts) == len(backend.requests)
    assert meter.left_tokens == 900 - meter.ledger.generated


async def test_a_cancelled_run_raises_and_its_last_attempt_is_wasted():
    backend, meter = FakeBackend(faults=["hang"]), Meter(900)
    task = asyncio.create_task(run("m/cot@900", backend, meter=meter))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [a.status for a in meter.attempts] == ["cancelled"]
    assert meter.ledger.wasted == backend.generated_tokens > 0


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_the_same_seed_gives_the_same_answer_and_trace(spelling):
    one, two = [await run(spelling.format(2000), FakeBackend(), seed=3) for _ in range(2)]
    assert one.evidence == two.evidence
    assert one.ledger == two.ledger
    assert one.stop_reason == two.stop_reason


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_candidates_are_numbered_apart_and_the_end_is_told(spelling):
    result = await run(spelling.format(3000), FakeBackend())
    numbers = [each.index for each in result.evidence.candidates]
    assert len(set(numbers)) == len(numbers)
    assert result.stop_reason == "lead(2)" or result.evidence.last


async def test_the_rule_given_goes_before_the_one_spelled():
    result = await run("m/self_consistency(k=16,stop=fixed(12))@9999", FakeBackend(), rule=Fixed(4))
    assert (result.stop_reason, len(result.evidence.candidates)) == ("fixed(4)", 4)


async def test_every_wave_is_told():
    seen = []

    async def listen(evidence):
        seen.append(len(evidence.candidates))

    await run("m/self_consistency(k=8,waves=2+2+4)@9999", FakeBackend(), on_evidence=listen)
    assert seen == [2, 4, 8]


async def test_the_schedule_can_be_given_from_outside():
    backend = FakeBackend()
    await run("m/self_consistency(k=5)@9999", backend, waves=(3, 1))
    assert [request.n for request in backend.requests] == [3, 1, 1]


async def test_a_wave_that_fails_leaves_the_answer_of_the_waves_before():
    result = await run("m/self_consistency(k=4,waves=2)@9999", FakeBackend(faults=["ok", "error"]))
    assert (result.stop_reason, len(result.evidence.candidates)) == ("upstream_failed", 2)
    assert [a.status for a in result.attempts] == ["ok", "failed"]


async def test_a_first_wave_that_fails_raises_with_what_was_booked():
    backend = FakeBackend(faults=["break"])
    with pytest.raises(UpstreamError, match=r"m/cot@99 has no answer \(upstream_failed\)") as caught:
        await run("m/cot@99", backend)
    assert [a.ledger.wasted for a in caught.value.attempts] == [backend.generated_tokens]
    assert caught.value.retryable
    assert caught.value.backend == "fake"


async def test_at_the_deadline_the_answer_comes_from_the_samples_that_came():
    backend = FakeBackend(faults=["ok", "hang"])
    result = await run("m/self_consistency(k=4,waves=2)@9999", backend, deadline_s=0.3)
    assert (result.stop_reason, len(result.evidence.candidates)) == ("deadline", 2)
    assert result.ledger.generated == backend.generated_tokens


async def test_a_deadline_before_any_sample_raises_with_what_was_booked():
    backend = FakeBackend(faults=["hang"])
    with pytest.raises(UpstreamError, match="deadline") as caught:
        await run("m/cot@99", backend, deadline_s=0.2)
    assert sum(a.ledger.generated for a in caught.value.attempts) == backend.generated_tokens > 0


async def test_a_deadline_that_has_passed_sends_nothing():
    backend = FakeBackend()
    with pytest.raises(UpstreamError, match="deadline had passed"):
        await run("m/cot@99", backend, deadline_s=0.0)
    assert backend.requests == []


class Deaf(FakeBackend):
    """Ignores the time limit it is given."""

    async def generate(self, request, book):
        await asyncio.Event().wait()


async def test_a_backend_that_ignores_its_time_limit_is_cut_off(monkeypatch):
    monkeypatch.setattr("rheostat.policies.run.DEADLINE_GRACE_S", 0.01)
    with pytest.raises(UpstreamError, match="no sample came before the deadline"):
        await run("m/cot@99", Deaf(), deadline_s=0.01)


async def test_a_timeout_of_the_listener_is_not_taken_for_the_deadline():
    async def listen(evidence):
        raise TimeoutError("the client is slow")

    with pytest.raises(TimeoutError, match="the client is slow"):
        await run("m/cot@99", FakeBackend(), on_evidence=listen, deadline_s=60)


class Mute(FakeBackend):
    """Answers without a sample."""

    async def generate(self, request, book):
        generation = await super().generate(request, book)
        return Generation(completions=(), attempt=generation.attempt)


async def test_an_answer_without_a_sample_is_a_failure():
    with pytest.raises(UpstreamError, match="without a sample"):
        await run("m/cot@99", Mute())


async def test_a_meter_without_room_refuses_the_first_call():
    meter = Meter(10)
    meter.reserve(10)
    with pytest.raises(BudgetError):
        await run("m/cot@10", FakeBackend(), meter=meter)


async def test_a_meter_that_another_spends_from_ends_the_run_with_what_there_is():
    meter, backend = Meter(9999), FakeBackend()

    async def grab(evidence):
        meter.reserve(meter.left_tokens)

    result = await run("m/self_consistency(k=4,waves=2)@9999", backend, meter=meter, on_evidence=grab)
    assert (result.stop_reason, len(result.evidence.candidates)) == ("budget", 2)


async def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(ActionError, match="no backend serves the model 'x': known are m"):
        await run("x/cot@99", FakeBackend())


async def test_a_verifiers_tokens_are_booked_as_such():
    meter, backend = Meter(999), FakeBackend(model=FakeModel(default={"7": 1.0}))
    call = Caller({"m": backend}, meter, Clock())
    await call(GenerateRequest(model="m", messages=make.question().messages, max_tokens=50), "verifier")
    assert (meter.ledger.verifier, meter.ledger.completion) == (backend.generated_tokens, 0)
    assert meter.attempts[0].kind == "verifier"


async def test_parallel_calls_together_stay_under_the_cap():
    meter, backend = Meter(100), FakeBackend(faults=["endless"], latency_s=0.001)
    call = Caller({"m": backend}, meter, Clock())
    request = GenerateRequest(model="m", messages=make.question().messages, max_tokens=30)
    ended = await asyncio.gather(*(call(request) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(each, BudgetError) for each in ended) == 2
    assert meter.ledger.generated == 90


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_curtail_gives_the_answer_of_all_samples_for_fewer(seed, k):
    async def both():
        full = await run(f"m/self_consistency(k={k})@99999", FakeBackend(), seed=seed)
        early = await run(f"m/self_consistency(k={k},waves=1)@99999", FakeBackend(), seed=seed, rule=parse_rule("curtail"))
        return full, early

    full, early = asyncio.run(both())
    assert early.answer == full.answer
    assert early.ledger.generated <= full.ledger.generated


async def test_saved_tokens_are_really_not_generated():
    model = FakeModel(default={"7": 0.9, "8": 0.1})
    fixed, adaptive = FakeBackend(model=model), FakeBackend(model=model)
    booked = 0
    for seed in range(0, 2000, 100):
        full = await run("m/self_consistency(k=16)@99999", fixed, seed=seed)
        early = await run("m/self_consistency(k=16,stop=beta(0.95))@99999", adaptive, seed=seed)
        booked += full.ledger.generated - early.ledger.generated
    saved = fixed.generated_tokens - adaptive.generated_tokens
    assert saved == booked > 0
