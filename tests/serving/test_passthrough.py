"""Calls that an engine answers by itself: booked, refused by name, and never held against the engine for what it is not."""

import msgspec
import pytest

from rheostat.data.errors import RequestError, UpstreamError
from rheostat.data.ledger import Price
from rheostat.serving.auth import Keys
from rheostat.serving.breaker import FAILURES_TO_OPEN
from rheostat.serving.config import BackendConfig, Config, LimitsConfig
from rheostat.serving.job import Jobs
from rheostat.serving.limits import LimitError
from rheostat.serving.metrics import Metrics
from rheostat.serving.passthrough import Forwarder, parse_embeddings, parse_tokenize
from rheostat.serving.recorder import Recorder
from tests.serving.scripted import REQUEST, Scripted, down, pool_of


def caller(**limits):
    backend = BackendConfig(name="a", url="http://127.0.0.1:1", model="m")
    return Keys(Config(backend=(backend,), limits=LimitsConfig(**limits))).principal([])


ANYBODY = caller()
PRICE = Price(usd_per_1m_input=1e6)  # a dollar a token
EMBEDDINGS = parse_embeddings(b'{"model": "m", "input": ["a b", "c"]}')
TOKENS = parse_tokenize(b'{"model": "m", "prompt": "a b"}')


class Engine(Scripted):
    """One that embeds."""

    async def forward(self, path, fields):
        await self._next()
        return msgspec.json.encode({"path": path, **fields, "usage": {"prompt_tokens": 3}})


class Kept:
    """A store in memory."""

    def __init__(self):
        self.records = []

    def put(self, record):
        self.records.append(record)
        return True


def forwarder_of(pool):
    """One in front of a pool, and its store."""
    store = Kept()
    jobs = Jobs(recorder=Recorder(store, store_prompts="off"), metrics=Metrics(), prices={"m": PRICE})
    return Forwarder(pools={"m": pool}, jobs=jobs), store


async def forwarded(call, *script, times=1):
    """The answer or the last error, the outcomes on record, and the pool."""
    pool, _ = pool_of(Engine("a", *script))
    forwarder, store = forwarder_of(pool)
    for _ in range(times):
        try:
            told = msgspec.json.decode(await forwarder.forward(call, ANYBODY))
        except (RequestError, UpstreamError) as error:
            told = error
    return told, store.records[1::2], pool


async def test_embeddings_are_booked_by_the_engines_own_count():
    told, (outcome,), _ = await forwarded(EMBEDDINGS)
    assert (told["path"], told["input"]) == ("/v1/embeddings", ["a b", "c"])
    assert (outcome.status, outcome.ledger.calls, outcome.ledger.prompt, outcome.ledger.generated) == ("ok", 1, 3, 0)


async def test_tokenizing_is_not_booked():
    told, outcomes, _ = await forwarded(TOKENS)
    assert (told["path"], outcomes) == ("/tokenize", [])


@pytest.mark.parametrize("call", [EMBEDDINGS, TOKENS])
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_model_that_is_for_something_else_is_the_clients_mistake(call, status):
    error, outcomes, pool = await forwarded(call, *[down(status)] * 20, times=2 * FAILURES_TO_OPEN)
    assert isinstance(error, RequestError)
    assert (error.status, error.param) == (400, "model")
    assert f"'m' does not serve {call.path}" in str(error)
    assert all(outcome.status == "failed" for outcome in outcomes)
    assert pool.is_available


async def test_an_engine_that_is_down_is_another_matter():
    error, (outcome,), _ = await forwarded(EMBEDDINGS, down(500))
    assert isinstance(error, UpstreamError)
    assert (outcome.status, outcome.ledger.calls) == ("failed", 0)


async def test_a_model_that_is_not_there_is_told_with_those_that_are():
    error, outcomes, _ = await forwarded(parse_embeddings(b'{"model": "mm", "input": "a"}'))
    assert (error.status, error.param, outcomes) == (404, "model", [])
    assert "known are m" in str(error)


async def test_embeddings_are_paid_from_the_dollars_of_the_key_until_there_are_none():
    # The engine counts 3 tokens where the four characters are set aside as one.
    asker, (forwarder, store) = caller(usd_per_day=6.5), forwarder_of(pool_of(Engine("a"))[0])
    for left in (3.5, 0.5):
        await forwarder.forward(EMBEDDINGS, asker)
        assert (asker.allowance.usd.left, asker.allowance.usd.reserved) == (left, 0.0)
    with pytest.raises(LimitError) as caught:
        await forwarder.forward(EMBEDDINGS, asker)
    assert caught.value.code == "insufficient_quota"
    assert len(store.records) == 4  # nothing of what was refused


async def test_embeddings_that_fail_give_back_what_they_set_aside():
    asker, (forwarder, _) = caller(usd_per_day=6.5), forwarder_of(pool_of(Engine("a", down(500)))[0])
    with pytest.raises(UpstreamError):
        await forwarder.forward(EMBEDDINGS, asker)
    assert (asker.allowance.usd.left, asker.allowance.usd.reserved) == (6.5, 0.0)


@pytest.mark.parametrize("call", [EMBEDDINGS, TOKENS])
async def test_another_replica_answers_for_one_that_is_down(call):
    engines = Engine("a", down(500)), Engine("b", down(500))
    pool, failed = pool_of(*engines)
    engines[1 if pool.pick(REQUEST).name == "a" else 0].script.clear()
    told = msgspec.json.decode(await forwarder_of(pool)[0].forward(call, ANYBODY))
    assert told["path"] == call.path
    assert len(failed) == 1
