import asyncio

import pytest

from rheostat.policies.base import GenerateRequest
from rheostat.serving.breaker import FAILURES_TO_OPEN
from rheostat.serving.upstream import FAIR_S, Replica
from tests.serving.scripted import REQUEST, Clock, Scripted, down


def use(replica, error, request=REQUEST, *, clock=None, takes_s=0.0):
    with pytest.raises(type(error)), replica.use(request):
        fail(error, clock, takes_s)


def fail(error, clock, takes_s):
    if clock is not None:
        clock.now += takes_s
    raise error


def failing(replica, error, times=FAILURES_TO_OPEN, **options):
    for _ in range(times):
        use(replica, error, **options)


def test_failures_in_a_row_hold_calls_back_and_a_success_forgets_them():
    replica = Replica(Scripted("a"), max_in_flight=1, clock=Clock())
    failing(replica, down(500), FAILURES_TO_OPEN - 1)
    with replica.use(REQUEST):
        assert (replica.is_full, replica.load, replica.places_used) == (True, 1, 1.0)
    failing(replica, down(500), FAILURES_TO_OPEN - 1)
    assert not replica.is_out
    use(replica, down(500))
    assert replica.is_out
    assert replica.in_flight == 0


@pytest.mark.parametrize("error", [down(400), down(413), down(422), asyncio.CancelledError(), ZeroDivisionError()])
def test_what_is_not_its_fault_is_not_held_against_it(error):
    replica = Replica(Scripted("a"), max_in_flight=1, clock=Clock())
    failing(replica, error, 10)
    assert not replica.is_out


def test_a_short_deadline_of_a_client_ejects_nobody_and_a_long_silence_does():
    clock = Clock()
    replica = Replica(Scripted("a"), max_in_flight=1, clock=clock)
    late = down()
    late.__cause__ = TimeoutError()
    hurried = GenerateRequest(model="m", messages=(), max_tokens=1, timeout_s=0.001)
    failing(replica, late, 10, request=hurried)
    assert not replica.is_out
    failing(replica, late, request=hurried, clock=clock, takes_s=FAIR_S)
    assert replica.is_out


def test_a_busy_engine_is_left_alone_for_as_long_as_it_asks():
    clock = Clock()
    replica = Replica(Scripted("a"), max_in_flight=1, clock=clock)
    use(replica, down(503, retry_after_s=2.0))
    assert replica.is_out
    clock.now += 2.0
    assert not replica.is_out


async def test_a_probe_reads_health_and_load():
    engine = Scripted("a")
    engine.gauges = {"num_requests_waiting": 3.0, "num_requests_running": 5.0, "kv_cache_usage_perc": 0.5}
    replica = Replica(engine, max_in_flight=1)
    await replica.probe(1.0)
    assert (replica.waiting, replica.running, replica.cache_use, replica.load) == (3.0, 5.0, 0.5, 3.0)
    engine.well = False
    await replica.probe(1.0)
    assert (replica.is_out, replica.waiting) == (True, 0.0)


async def test_an_engine_without_metrics_is_well_and_one_that_hangs_is_not():
    engine = Scripted("a")
    engine.gauges = down(404)
    replica = Replica(engine, max_in_flight=1)
    await replica.probe(1.0)
    assert not replica.is_out

    async def hang():
        await asyncio.Event().wait()

    engine.healthy = hang
    await replica.probe(0.01)
    assert replica.is_out


async def test_a_replica_that_leaves_waits_for_its_calls_within_bounds():
    engine = Scripted("a")
    replica = Replica(engine, max_in_flight=1)
    with replica.use(REQUEST):
        leaving = asyncio.create_task(replica.retire(30.0))
        await asyncio.sleep(0)
        assert not engine.closed
    await leaving
    assert engine.closed
    with replica.use(REQUEST):
        await replica.retire(0.001)
