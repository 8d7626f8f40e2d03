import asyncio
from collections import Counter

import pytest

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import GenerateRequest, Meter
from rheostat.serving import context
from rheostat.serving.breaker import EARLY_S, FAILURES_TO_OPEN, RETRIES_AT_START
from rheostat.serving.context import RequestContext
from rheostat.serving.tracing import trace_of
from rheostat.serving.upstream import FAIR_S
from tests.serving.scripted import REQUEST, Clock, Scripted, down, pool_of


def asking(text, timeout_s=None):
    return GenerateRequest(model="m", messages=({"role": "user", "content": text},), max_tokens=10, timeout_s=timeout_s)


async def test_a_call_moves_to_another_replica_when_one_refuses_it():
    first, second = Scripted("a", down()), Scripted("b")
    pool, failed = pool_of(first, second, prefix_affinity=False)
    await pool.generate(REQUEST, Meter(10))
    assert (first.calls, second.calls, failed) == (1, 1, ["a"])


async def test_a_failure_that_another_replica_would_not_mend_is_not_retried():
    first, second = Scripted("a", down(retryable=False)), Scripted("b")
    pool, _ = pool_of(first, second, prefix_affinity=False)
    with pytest.raises(UpstreamError):
        await pool.generate(REQUEST, Meter(10))
    assert second.calls == 0


async def test_a_stream_that_sent_bytes_is_not_retried():
    first, second = Scripted("a", down()), Scripted("b")
    pool, failed = pool_of(first, second, prefix_affinity=False)
    got = []

    async def read():
        async for chunk in pool.stream(REQUEST, Meter(10)):
            got.append(chunk)  # noqa: PERF401 - what came before the error is the point

    with pytest.raises(UpstreamError):
        await read()
    assert (got, second.calls, failed) == ([b"first"], 0, ["a"])


async def test_a_short_deadline_of_a_client_is_no_failure_of_a_replica():
    late = down()
    late.__cause__ = TimeoutError()
    pool, failed = pool_of(Scripted("a", late, late))
    for timeout_s, known in ((0.005, []), (FAIR_S, ["a"])):
        with pytest.raises(UpstreamError):
            await pool.generate(asking("x", timeout_s=timeout_s), Meter(10))
        assert failed == known


async def test_the_log_line_of_a_request_names_the_replica_that_failed_it_also_where_another_answered():
    request = RequestContext(trace_of([]), 0.0)
    context.enter(request)
    pool, _ = pool_of(Scripted("a", down(500)), Scripted("b"), prefix_affinity=False)
    await pool.generate(REQUEST, Meter(10))
    assert request.notes == {"backend": "a", "upstream_status": 500}


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_replica_that_is_set_up_wrongly_fails_no_request_and_is_left_alone(status):
    # A key that it does not know, or another model: it refuses at once, and would be the least busy one.
    first, second = Scripted("a", *[down(status, retryable=False)] * 100), Scripted("b")
    pool, _ = pool_of(first, second, prefix_affinity=False)
    for _ in range(100):
        await pool.generate(REQUEST, Meter(10))
    assert (first.calls, second.calls) == (FAILURES_TO_OPEN, 100)


async def test_retries_are_bounded_so_that_a_failing_fleet_is_not_asked_twice_as_much():
    calls = 100
    engines = [Scripted(name, *[down(500)] * 1000) for name in "ab"]
    pool, _ = pool_of(*engines, retries=0.2)
    for replica in pool.replicas:
        replica.breaker.failed = lambda: None
    for _ in range(calls):
        with pytest.raises(UpstreamError):
            await pool.generate(REQUEST, Meter(10))
    tried = sum(engine.calls for engine in engines)
    assert calls < tried <= 1.2 * calls + RETRIES_AT_START


async def test_a_retry_has_only_the_time_that_is_left_and_none_is_made_after_it():
    clock = Clock()
    first, second = Scripted("a", down(500), down(500)), Scripted("b")
    pool, _ = pool_of(first, second, clock=clock, prefix_affinity=False)

    async def slow():
        clock.now += 3.0

    first.gate = type("Gate", (), {"wait": staticmethod(slow)})
    await pool.generate(asking("x", timeout_s=4.0), Meter(10))
    assert second.requests[0].timeout_s == 1.0
    with pytest.raises(UpstreamError):
        await pool.generate(asking("x", timeout_s=2.0), Meter(10))
    assert second.calls == 1


async def test_the_least_loaded_replica_gets_the_call():
    first, second = Scripted("a"), Scripted("b")
    first.gate = second.gate = asyncio.Event()
    pool, _ = pool_of(first, second, prefix_affinity=False)
    calls = [asyncio.create_task(pool.generate(REQUEST, Meter(10))) for _ in range(6)]
    await asyncio.sleep(0)
    assert first.calls == second.calls == 3
    assert pool.in_flight == 6
    first.gate.set()
    await asyncio.gather(*calls)
    assert pool.in_flight == 0


def test_what_waits_in_an_engine_counts_as_load_whoever_sent_it():
    pool, _ = pool_of(Scripted("a"), Scripted("b"), prefix_affinity=False)
    pool.replicas[0].waiting = 2.0
    assert pool.pick(REQUEST).name == "b"


def test_prompts_that_begin_alike_go_to_one_replica_and_others_are_spread():
    pool, _ = pool_of(*(Scripted(name) for name in "abc"))
    homes = {text: {pool.pick(asking(text * 600 + str(i))).name for i in range(5)} for text in "mnopqrstuvwxyz"}
    assert all(len(names) == 1 for names in homes.values())
    assert {name for names in homes.values() for name in names} == {"a", "b", "c"}


def test_only_the_prompts_of_a_replica_that_is_gone_move():
    texts = [f"question {i}" for i in range(200)]
    pool, _ = pool_of(*(Scripted(name) for name in "abc"))
    before = {text: pool.pick(asking(text)).name for text in texts}
    pool.replicas[1].is_well = False
    after = {text: pool.pick(asking(text)).name for text in texts}
    assert all(after[text] == home for text, home in before.items() if home != "b")
    assert len({after[text] for text, home in before.items() if home == "b"}) == 2


async def test_one_hot_prompt_is_spread_once_its_home_is_clearly_busier():
    engines = [Scripted(name) for name in "abc"]
    gate = asyncio.Event()
    for engine in engines:
        engine.gate = gate
    pool, _ = pool_of(*engines)
    calls = [asyncio.create_task(pool.generate(asking("hot"), Meter(10))) for _ in range(60)]
    await asyncio.sleep(0)
    loads = [engine.calls for engine in engines]
    assert sum(loads) == 60
    assert max(loads) <= 1.25 * 61 / 3 + 1
    gate.set()
    await asyncio.gather(*calls)


async def tripped(clock):
    """An engine that failed as often as a breaker takes and is well again, and the pool over it alone."""
    engine = Scripted("a", *[down(500)] * FAILURES_TO_OPEN)
    pool, _ = pool_of(engine, clock=clock)
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(UpstreamError, match="down"):
            await pool.generate(REQUEST, Meter(10))
    return engine, pool


async def test_a_held_back_replica_gets_one_call_to_prove_itself():
    clock = Clock()
    engine, pool = await tripped(clock)
    with pytest.raises(UpstreamError, match="no backend of model 'm'") as refused:
        await pool.generate(REQUEST, Meter(10))
    assert (refused.value.status, refused.value.retry_after_s) == (503, 1.0)
    clock.now += 1.0
    engine.gate = asyncio.Event()
    trial = asyncio.create_task(pool.generate(REQUEST, Meter(10)))
    await asyncio.sleep(0)
    assert not pool.is_available
    engine.gate.set()
    await trial
    assert pool.is_available


async def test_where_all_failed_a_call_now_and_then_goes_ahead_of_the_pause_and_ends_it_when_it_succeeds():
    clock = Clock()
    _, pool = await tripped(clock)
    with pytest.raises(UpstreamError, match="no backend"):
        await pool.generate(REQUEST, Meter(10))
    clock.now += EARLY_S
    await pool.generate(REQUEST, Meter(10))
    assert pool.is_available


async def test_one_that_asks_to_be_left_alone_gets_fewer_calls_at_once_than_it_refused():
    engine = Scripted("a", down(503, retry_after_s=20))
    pool, _ = pool_of(engine)

    async def ask(n):
        engine.gate = asyncio.Event()
        calls = [asyncio.create_task(pool.generate(REQUEST, Meter(10))) for _ in range(n)]
        await asyncio.sleep(0)
        engine.gate.set()
        return sum(not isinstance(ended, UpstreamError) for ended in await asyncio.gather(*calls, return_exceptions=True))

    assert await ask(8) == 7
    assert not pool.is_available
    fewer = await ask(8)
    assert 4 <= fewer < 8
    assert await ask(8) >= fewer


async def test_of_those_that_ask_to_be_left_alone_the_one_that_asks_for_less_is_asked():
    first, second = Scripted("a", down(503, retry_after_s=20)), Scripted("b", down(503, retry_after_s=10))
    pool, _ = pool_of(first, second, prefix_affinity=False)
    with pytest.raises(UpstreamError) as refused:
        await pool.generate(REQUEST, Meter(10))
    assert refused.value.retry_after_s == 10
    await pool.generate(REQUEST, Meter(10))
    assert (first.calls, second.calls) == (1, 2)


async def test_what_one_replica_asks_for_is_not_asked_of_clients_while_another_is_well():
    first, second = Scripted("a", down(503, retry_after_s=20)), Scripted("b")
    pool, _ = pool_of(first, second, prefix_affinity=False, retries=0.0)
    with pytest.raises(UpstreamError) as refused:
        await pool.generate(REQUEST, Meter(10))
    assert refused.value.retry_after_s == 0
    await pool.generate(REQUEST, Meter(10))
    assert second.calls == 1


async def test_a_full_replica_takes_no_call():
    engine = Scripted("a")
    engine.gate = asyncio.Event()
    pool, _ = pool_of(engine, full=1)
    first = asyncio.create_task(pool.generate(REQUEST, Meter(10)))
    await asyncio.sleep(0)
    with pytest.raises(UpstreamError, match="no backend"):
        await pool.generate(REQUEST, Meter(10))
    engine.gate.set()
    await first


async def test_a_pool_without_replicas_says_so():
    with pytest.raises(UpstreamError, match="no backend"):
        await pool_of()[0].generate(REQUEST, Meter(10))


async def test_closing_closes_all_replicas():
    engines = [Scripted("a"), Scripted("b")]
    await pool_of(*engines)[0].close()
    assert all(engine.closed for engine in engines)


def test_where_no_replica_answers_probes_a_call_will_tell():
    pool, _ = pool_of(Scripted("a"), Scripted("b"))
    pool.replicas[0].is_well = False
    assert pool.pick(REQUEST).name == "b"
    pool.replicas[1].is_well = False
    assert not pool.is_available
    assert pool.pick(REQUEST).name in "ab"


def test_messages_that_are_no_plain_texts_have_a_prefix_too():
    pool, _ = pool_of(Scripted("a"), Scripted("b"))
    parts = [{"type": "text", "text": "\ud800"}, {"type": "image_url", "image_url": {"url": "x"}}]
    odd = GenerateRequest(model="m", messages=({"role": "user", "content": parts}, {"content": None}), max_tokens=1)
    assert Counter(pool.pick(odd).name for _ in range(3)).most_common(1)[0][1] == 3
