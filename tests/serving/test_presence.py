"""Work for a client ends with the client, and with nothing else."""

from __future__ import annotations

import asyncio

import pytest

from rheostat.serving.presence import PRESENCE, ClientGone, Presence, presence_of


async def forever(ended):
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(True)


async def test_work_that_ends_first_gives_its_result_or_error():
    async def fine():
        return 3

    async def fails():
        raise ValueError("own")

    presence = Presence()
    assert await presence.during(fine()) == 3
    with pytest.raises(ValueError, match="own"):
        await presence.during(fails())
    presence.leave()  # after the work: nobody is stopped
    await asyncio.sleep(0)


async def test_work_is_stopped_and_awaited_when_the_client_leaves():
    presence, ended = Presence(), []
    asyncio.get_running_loop().call_soon(presence.leave)
    with pytest.raises(ClientGone):
        await presence.during(forever(ended))
    assert ended == [True]
    await asyncio.sleep(0)  # whoever served the request goes on


async def test_nothing_is_begun_for_a_client_that_has_left():
    presence, ended = Presence(), []
    presence.leave()
    with pytest.raises(ClientGone):
        await presence.during(forever(ended))
    assert ended == []


async def test_a_cancel_from_elsewhere_stays_a_cancel():
    presence, ended = Presence(), []
    task = asyncio.create_task(presence.during(forever(ended)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_a_client_that_leaves_during_a_cancel_does_not_undo_it():
    presence = Presence()
    task = asyncio.create_task(presence.during(forever([])))
    await asyncio.sleep(0)
    task.cancel()
    presence.leave()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_server_that_tells_nothing_has_clients_that_never_leave():
    presence = Presence()
    assert presence_of({"state": {PRESENCE: presence}}) is presence
    assert isinstance(presence_of({}), Presence)
