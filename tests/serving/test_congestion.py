import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.serving.congestion import Congestion
from tests.serving.scripted import Scripted, pool_of


def pools_with(**replica):
    pool, _ = pool_of(Scripted("a"), full=10)
    for name, value in replica.items():
        setattr(pool.replicas[0], name, value)
    return {"m": pool}


def settled(pools, weight=2.0):
    congestion = Congestion(weight=weight, full_queue=8)
    for _ in range(40):
        congestion.look(pools)
    return congestion


@pytest.mark.parametrize(
    ("replica", "expected"),
    [
        ({}, {}),
        ({"running": 1000.0}, {}),
        ({"waiting": 4.0}, {"m": 2.0}),
        ({"waiting": 800.0}, {"m": 3.0}),
        ({"cache_use": 1.0}, {}),
        ({"cache_use": 1.0, "waiting": 1.0}, {"m": 3.0}),
        ({"in_flight": 9}, {"m": 2.0}),
        ({"is_well": False}, {"m": 3.0}),
    ],
)
def test_a_model_is_as_scarce_as_its_queue_cache_or_places_are_full(replica, expected):
    assert settled(pools_with(**replica)).scarcity == pytest.approx(expected)


def test_a_queue_that_passes_counts_less_than_one_that_lasts():
    pools = pools_with(waiting=8.0)
    congestion = Congestion(weight=1.0, full_queue=8)
    congestion.look(pools)
    once = congestion.scarcity["m"]
    congestion.look(pools)
    assert 1.0 < once < congestion.scarcity["m"]
    pools["m"].replicas[0].waiting = 0.0
    for _ in range(12):
        congestion.look(pools)
    assert congestion.scarcity == {}


def test_the_emptiest_replica_counts_and_weight_zero_turns_it_off():
    pool, _ = pool_of(Scripted("a"), Scripted("b"))
    pool.replicas[0].waiting = 100.0
    assert settled({"m": pool}).scarcity == {}
    assert settled(pools_with(waiting=100.0), weight=0.0).scarcity == {}


@given(st.floats(0, 1e6), st.floats(0, 1), st.integers(0, 10))
def test_pressure_stays_between_none_and_full(waiting, cache_use, in_flight):
    congestion = settled(pools_with(waiting=waiting, cache_use=cache_use, in_flight=in_flight))
    assert 0.0 <= congestion.pressure["m"] <= 1.0
    assert all(1.0 < factor <= 3.0 for factor in congestion.scarcity.values())
