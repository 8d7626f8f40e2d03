"""Aborts go out together, and an engine that takes none is left alone."""

import asyncio

import msgspec
import pytest

from rheostat.policies.aborts import Aborts


class Engine:
    """Keeps what it was told; answers when it is let, with a status or an error."""

    def __init__(self, says=200):
        self.told = []
        self.heard = asyncio.Queue()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.says = says

    async def post(self, body):
        self.told.append(msgspec.json.decode(body)["request_ids"])
        self.heard.put_nowait(body)
        await self.may_answer.wait()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


async def test_calls_that_are_aborted_in_one_moment_are_told_together():
    engine = Engine()
    aborts = Aborts(engine.post)
    assert all(await asyncio.gather(*(aborts.abort([f"call-{number}", f"call-{number}-0"]) for number in range(100))))
    assert [len(ids) for ids in engine.told] == [200]


async def test_later_ones_do_not_wait_for_the_answer_to_earlier_ones():
    engine = Engine()
    engine.may_answer.clear()
    aborts = Aborts(engine.post)
    first = asyncio.create_task(aborts.abort(["a"]))
    await engine.heard.get()
    second = asyncio.create_task(aborts.abort(["b"]))
    await engine.heard.get()
    engine.may_answer.set()
    assert await first
    assert await second
    assert engine.told == [["a"], ["b"]]


async def test_one_that_is_cancelled_does_not_take_the_others_along():
    engine = Engine()
    aborts = Aborts(engine.post)
    gone, other = (asyncio.create_task(aborts.abort([name])) for name in ("gone", "other"))
    await asyncio.sleep(0)
    gone.cancel()
    assert await other
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert engine.told == [["gone", "other"]]


@pytest.mark.parametrize("status", [403, 404, 405, 501])
async def test_an_engine_that_takes_no_aborts_is_asked_once(status):
    engine = Engine(says=status)
    aborts = Aborts(engine.post)
    assert not await aborts.abort(["a"])
    assert not await aborts.abort(["b"])
    assert engine.told == [["a"]]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_engine_that_is_busy_is_asked_again(status):
    engine = Engine(says=status)
    aborts = Aborts(engine.post)
    assert not await aborts.abort(["a"])
    engine.says = 200
    assert await aborts.abort(["b"])


async def test_an_engine_that_cannot_be_reached_is_asked_again():
    engine = Engine(says=ConnectionError("gone"))
    aborts = Aborts(engine.post)
    assert not await aborts.abort(["a"])
    assert not await aborts.abort(["b"])
    assert engine.told == [["a"], ["b"]]
