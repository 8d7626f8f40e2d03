import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import RequestError
from rheostat.serving.admission import Admission
from rheostat.serving.metrics import Metrics


def admission(places=2, max_queued=3, max_wait_s=30.0):
    metrics = Metrics()
    return Admission(places=places, max_queued=max_queued, max_wait_s=max_wait_s, metrics=metrics), metrics


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_who_waits_longest_is_next():
    gate, metrics = admission(places=1)
    served = []

    async def client(name):
        await gate.enter()
        served.append(name)

    await gate.enter()
    waiting = [asyncio.create_task(client(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert value(metrics, "rheostat_queued") == 3
    for task in waiting:
        gate.leave()
        await task
    gate.leave()
    assert served == ["a", "b", "c"]
    assert (gate.in_flight, value(metrics, "rheostat_queued")) == (0, 0)


async def test_beyond_the_queue_a_request_is_refused_at_once():
    gate, metrics = admission(places=1, max_queued=1)
    await gate.enter()
    waiting = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    started = time.perf_counter()
    for _ in range(100):
        with pytest.raises(RequestError, match="1 requests are served and 1 wait") as refused:
            await gate.enter()
    assert (time.perf_counter() - started) / 100 < 0.010
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    assert value(metrics, "rheostat_shed_total", reason="queue_full") == 100
    gate.leave()
    await waiting


async def test_no_wait_is_longer_than_the_longest():
    gate, metrics = admission(places=1, max_wait_s=0.01)
    await gate.enter()
    with pytest.raises(RequestError, match=r"within 0.01 s"):
        await gate.enter()
    assert value(metrics, "rheostat_shed_total", reason="waited") == 1
    gate.leave()
    await gate.enter()


async def test_who_leaves_the_queue_leaves_no_place_behind():
    gate, _ = admission(places=1)
    await gate.enter()
    gone, next_one = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    gate.leave()
    await next_one
    assert gate.in_flight == 1


async def test_a_place_given_to_one_who_is_just_leaving_goes_to_the_next():
    gate, _ = admission(places=1)
    await gate.enter()
    gone, next_one = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    gate.leave()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await next_one
    gate.leave()
    assert gate.in_flight == 0


@given(st.lists(st.tuples(st.floats(0, 0.002), st.booleans()), max_size=30), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_places_are_never_over_the_bound_and_all_come_back(clients, places, max_queued):
    most = asyncio.run(_crowd(clients, places, max_queued))
    assert most <= places


async def _crowd(clients, places, max_queued):
    gate, _ = admission(places, max_queued, max_wait_s=0.003)
    most = 0

    async def client(seconds):
        nonlocal most
        await gate.enter()
        most = max(most, gate.in_flight)
        try:
            await asyncio.sleep(seconds)
        finally:
            gate.leave()

    tasks = [asyncio.create_task(client(seconds)) for seconds, _ in clients]
    await asyncio.sleep(0.001)
    for task, (_, leaves) in zip(tasks, clients, strict=True):
        if leaves:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.in_flight == 0
    return most
