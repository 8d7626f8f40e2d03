import asyncio
import logging

import pytest

from rheostat.data.errors import ConfigError, UpstreamError
from rheostat.policies.base import GenerateRequest, Meter
from rheostat.serving.breaker import FAILURES_TO_OPEN
from rheostat.serving.config import parse
from rheostat.serving.congestion import Congestion
from rheostat.serving.fleet import Fleet
from rheostat.serving.metrics import Metrics
from rheostat.serving.probes import Prober
from tests.serving.scripted import Scripted, down, pool_of

REQUEST = GenerateRequest(model="pocket", messages=(), max_tokens=1)


def backends(**model_of):
    return parse(
        "".join(f'[[backend]]\nname = "{name}"\nurl = "http://127.0.0.1:1"\nmodel = "{model}"\n' for name, model in model_of.items())
    )


def names(fleet, model):
    return [replica.name for replica in fleet.pools[model].replicas]


@pytest.fixture
def metrics():
    return Metrics()


async def test_backends_join_and_leave_and_those_that_stay_keep_their_history(metrics):
    fleet = Fleet(backends(a="pocket", b="pocket"), environ={}, metrics=metrics)
    pool, kept = fleet.pools["pocket"], fleet.pools["pocket"].replicas[1]
    fleet.apply(backends(b="pocket", c="pocket", d="other"))
    assert (names(fleet, "pocket"), names(fleet, "other")) == (["b", "c"], ["d"])
    assert fleet.pools["pocket"] is pool
    assert pool.replicas[0] is kept
    await fleet.close()


async def test_a_replica_that_leaves_finishes_its_calls_first(metrics):
    fleet = Fleet(backends(a="pocket", b="pocket"), environ={}, metrics=metrics)
    leaving = fleet.pools["pocket"].replicas[0]
    closed = asyncio.Event()

    async def close():
        closed.set()

    leaving.engine.close = close
    with leaving.use(REQUEST):
        fleet.apply(backends(b="pocket"))
        await asyncio.sleep(0)
        assert not closed.is_set()
    await asyncio.wait_for(closed.wait(), 30)
    await fleet.close()


async def test_a_model_whose_last_backend_left_sends_requests_elsewhere(metrics):
    fleet = Fleet(backends(a="pocket", b="other"), environ={}, metrics=metrics)
    fleet.apply(backends(b="other"))
    assert fleet.available == {"other": True}
    with pytest.raises(UpstreamError, match="no backend of model 'pocket'"):
        await fleet.pools["pocket"].generate(REQUEST, Meter(1))
    await fleet.close()


async def test_a_key_that_is_not_set_changes_nothing(metrics):
    fleet = Fleet(backends(a="pocket"), environ={}, metrics=metrics)
    config = parse('[[backend]]\nname = "b"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\napi_key_env = "NOT_SET"\n')
    with pytest.raises(ConfigError, match="NOT_SET"):
        fleet.apply(config)
    assert names(fleet, "pocket") == ["a"]
    await fleet.close()


async def test_backends_that_go_out_and_come_back_are_told_once_each(metrics, caplog):
    engine = Scripted("a", *[down()] * FAILURES_TO_OPEN)
    pool, _ = pool_of(engine)
    prober = Prober({"m": pool}, congestion=Congestion(weight=1.0, full_queue=1), metrics=metrics, every_s=1.0, timeout_s=5.0)

    async def told():
        caplog.clear()
        for _ in range(3):
            await prober.look()
        return caplog.messages

    with caplog.at_level(logging.INFO):
        assert await told() == []
        engine.well = False
        assert await told() == ["backend a is left alone: it does not say that it is well"]
        engine.well = True
        assert await told() == ["backend a takes calls again"]
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(UpstreamError):
                await pool.generate(REQUEST, Meter(1))
        assert await told() == ["backend a is left alone: its last 5 calls or more failed"]
        pool.replicas[0].breaker.succeeded(trial=True)
        assert await told() == ["backend a takes calls again"]


async def test_probes_follow_the_fleet_and_its_gauges_leave_with_a_backend(metrics, unused_tcp_port):
    fleet = Fleet(backends(a="pocket", b="pocket"), environ={}, metrics=metrics)
    congestion = Congestion(weight=1.0, full_queue=1)
    prober = Prober(fleet.pools, congestion=congestion, metrics=metrics, every_s=0.001, timeout_s=5.0)

    def up(name):
        return metrics.registry.get_sample_value("rheostat_backend_up", {"backend": name})

    await prober.look()
    assert (up("a"), up("b")) == (0.0, 0.0)
    assert congestion.pressure["pocket"] > 0
    fleet.apply(backends(b="pocket"))
    running = asyncio.create_task(prober.run())
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (up("a"), up("b")) == (None, 0.0)
    await fleet.close()
