import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt
from rheostat.policies.base import GenerateRequest, Generation, Meter
from rheostat.serving.stream import MARK, Passage
from rheostat.serving.upstream import FAILURES_TO_EJECT, Pool, Replica

REQUEST = GenerateRequest(model="m", messages=(), max_tokens=10)
ATTEMPT = Attempt(model="m", kind="completion", status="ok", ledger=Ledger(calls=1), latency_s=0.0)


class Scripted:
    """An engine that does what it is told, in turn: None works, an error is raised."""

    def __init__(self, name, *script):
        self.name = name
        self.script = list(script)
        self.calls = 0
        self.gate = None

    async def _next(self):
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        error = self.script.pop(0) if self.script else None
        if error is not None:
            raise error

    async def generate(self, request, book):
        await self._next()
        book.book(ATTEMPT)
        return Generation(completions=(), attempt=ATTEMPT)

    async def stream(self, request, book, *, reply=None):
        yield b"first"
        await self._next()
        yield b"second"

    async def close(self):
        self.calls = -1


def down(status=None, retryable=True):
    return UpstreamError("down", backend="x", status=status, retryable=retryable)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def pool_of(*engines, clock=None, full=100):
    failed = []
    replicas = [Replica(engine, max_in_flight=full, clock=clock or Clock()) for engine in engines]
    return Pool("m", replicas, on_failure=failed.append), failed


async def test_a_call_moves_to_another_replica_when_one_refuses_it():
    first, second = Scripted("a", down()), Scripted("b")
    pool, failed = pool_of(first, second)
    await pool.generate(REQUEST, Meter(10))
    assert (first.calls, second.calls, failed) == (1, 1, ["a"])


async def test_a_failure_that_may_have_spent_is_not_retried():
    first, second = Scripted("a", down(retryable=False)), Scripted("b")
    with pytest.raises(UpstreamError):
        await pool_of(first, second)[0].generate(REQUEST, Meter(10))
    assert second.calls == 0


async def test_a_stream_that_sent_bytes_is_not_retried():
    first, second = Scripted("a", down()), Scripted("b")
    pool, failed = pool_of(first, second)
    got = []

    async def read():
        async for chunk in pool.stream(REQUEST, Meter(10)):
            got.append(chunk)  # noqa: PERF401 - what came before the error is the point

    with pytest.raises(UpstreamError):
        await read()
    assert (got, second.calls, failed) == ([b"first"], 0, ["a"])


async def test_the_least_loaded_replica_gets_the_call():
    first, second = Scripted("a"), Scripted("b")
    first.gate = second.gate = asyncio.Event()
    pool, _ = pool_of(first, second)
    calls = [asyncio.create_task(pool.generate(REQUEST, Meter(10))) for _ in range(6)]
    await asyncio.sleep(0)
    assert first.calls == second.calls == 3
    assert pool.in_flight == 6
    first.gate.set()
    await asyncio.gather(*calls)
    assert pool.in_flight == 0


async def test_failures_in_a_row_eject_a_replica_for_longer_and_longer():
    clock = Clock()
    engine = Scripted("a", *[down(500) for _ in range(8)])
    pool, _ = pool_of(engine, clock=clock)
    for _ in range(FAILURES_TO_EJECT):
        assert pool.is_available
        with pytest.raises(UpstreamError):
            await pool.generate(REQUEST, Meter(10))
    for wait_s in (1.0, 2.0, 4.0, 8.0, 16.0):
        assert not pool.is_available
        with pytest.raises(UpstreamError, match="no backend of model 'm'"):
            await pool.generate(REQUEST, Meter(10))
        clock.now += wait_s
        assert pool.is_available
        with pytest.raises(UpstreamError, match="down"):
            await pool.generate(REQUEST, Meter(10))
    clock.now += 31.0
    await pool.generate(REQUEST, Meter(10))
    assert pool.is_available


async def test_a_clients_own_fault_never_ejects():
    engine = Scripted("a", *[down(400, retryable=False) for _ in range(10)])
    pool, failed = pool_of(engine)
    for _ in range(10):
        with pytest.raises(UpstreamError):
            await pool.generate(REQUEST, Meter(10))
    assert pool.is_available
    assert failed == []


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


async def test_closing_closes_all_replicas():
    engines = [Scripted("a"), Scripted("b")]
    await pool_of(*engines)[0].close()
    assert [engine.calls for engine in engines] == [-1, -1]


@given(st.binary(max_size=60), st.lists(st.integers(1, 70), max_size=6))
def test_a_passage_gives_every_byte_before_the_mark_however_it_is_cut(body, cuts):
    body = body.replace(b"[DONE]", b"")
    whole = body + MARK + b"\n\n"
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    passage = Passage()
    out = b"".join(passage.feed(whole[a:b]) for a, b in itertools.pairwise(places))
    assert out == body + b"\n"
    assert passage.done
    assert passage.feed(b"more") == b""


def test_an_answer_that_says_the_mark_is_not_the_end():
    passage = Passage()
    assert passage.feed(b'data: {"content": "data: [DONE]"}\n\n') == b'data: {"content": "data: [DONE]"}\n'
    assert not passage.done
