"""One answer after the other over one connection, whatever way its bytes are cut, and nothing that was not asked for."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rheostat.policies.http_connection import HIGH_WATER_BYTES, MAX_HEAD_BYTES, BrokenError, Connection
from tests.policies.bare import Bare, says, whole

ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
FAR_S = 20.0
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n6\r\n, this\r\n0\r\n\r\n"


class Wire:
    """A transport that keeps what is written, and a connection on it."""

    def __init__(self) -> None:
        self.connection = Connection(idle_timeout_s=FAR_S)
        self.connection.connection_made(self)
        self.written, self.aborted, self.reading = b"", False, True

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def ask(self):
        self.connection.send(ASK, until=asyncio.get_running_loop().time() + FAR_S)
        return self.connection

    def come(self, *parts):
        for part in parts:
            self.connection.data_received(part)


async def read(connection):
    await connection.head()
    return await connection.read_all()


@pytest.mark.parametrize("answer", [whole(b"fine, this"), CHUNKED])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 110), max_size=8))
def test_an_answer_is_the_same_however_it_is_cut(answer, cuts):
    async def run():
        wire = Wire()
        connection = wire.ask()
        edges = [0, *sorted({cut for cut in cuts if cut < len(answer)}), len(answer)]
        wire.come(*(answer[start:end] for start, end in pairwise(edges)))
        assert await read(connection) == b"fine, this"
        assert connection.status == 200
        assert connection.is_reusable

    asyncio.run(run())


async def test_a_second_exchange_knows_nothing_of_the_first():
    wire = Wire()
    connection = wire.ask()
    wire.come(whole(b"one", status=503, more="Retry-After: 7\r\n"))
    assert (await read(connection), connection.status, connection.headers["retry-after"]) == (b"one", 503, "7")
    wire.ask()
    assert not connection.is_reusable
    wire.come(whole(b"two"))
    assert (await read(connection), connection.status) == (b"two", 200)
    assert "retry-after" not in connection.headers
    assert wire.written == 2 * ASK


async def test_heads_that_only_announce_the_head_are_skipped():
    wire = Wire()
    connection = wire.ask()
    wire.come(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", whole())
    assert await read(connection) == b"fine"
    assert "link" not in connection.headers


async def test_a_body_without_a_length_ends_with_the_connection():
    wire = Wire()
    connection = wire.ask()
    wire.come(b"HTTP/1.1 200 OK\r\n\r\nfi", b"ne")
    connection.connection_lost(None)
    assert await read(connection) == b"fine"
    assert not connection.is_reusable


@pytest.mark.parametrize("lost", [None, ConnectionResetError("reset")])
@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\n", whole()[:-1], CHUNKED[:-3]])
async def test_an_answer_cut_off_is_an_error_after_what_came_of_it(part, lost):
    wire = Wire()
    connection = wire.ask()
    if part:
        wire.come(part)
    connection.connection_lost(lost)
    with pytest.raises(ConnectionError, match=r"reset|closed the connection"):
        await read(connection)
    assert not connection.is_open


async def test_a_reset_is_an_error_also_where_the_connection_ends_the_body():
    wire = Wire()
    connection = wire.ask()
    wire.come(b"HTTP/1.1 200 OK\r\n\r\nfi")
    connection.connection_lost(ConnectionResetError("reset"))
    await connection.head()
    assert await connection.read() == b"fi"
    with pytest.raises(ConnectionResetError):
        await connection.read()


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nfine",
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 4\n\nfine",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD_BYTES,
    ],
)
async def test_what_breaks_the_rules_breaks_the_connection(said):
    wire = Wire()
    connection = wire.ask()
    wire.come(said)
    with pytest.raises(BrokenError):
        await read(connection)
    assert wire.aborted


async def test_an_answer_nobody_asked_for_is_never_given_to_the_next_request():
    wire = Wire()
    connection = wire.ask()
    wire.come(whole(b"mine") + whole(b"a stranger's"))
    assert await read(connection) == b"mine"
    assert not connection.is_reusable


async def test_bytes_between_two_requests_close_the_connection():
    wire = Wire()
    connection = wire.ask()
    wire.come(whole())
    await read(connection)
    assert connection.is_reusable
    wire.come(b"H")
    assert wire.aborted
    assert not connection.is_reusable


@pytest.mark.parametrize("last", [b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nfine", whole(more="connection: close\r\n")])
async def test_a_connection_that_is_to_be_closed_is_not_used_again(last):
    wire = Wire()
    connection = wire.ask()
    wire.come(last)
    assert await read(connection) == b"fine"
    assert not connection.is_reusable


async def test_a_server_waits_while_nobody_reads():
    wire = Wire()
    connection = wire.ask()
    body = b"x" * (HIGH_WATER_BYTES + 1)
    wire.come(whole(body))
    assert not wire.reading
    await connection.head()
    assert await connection.read() == body
    assert wire.reading


async def test_the_beginning_of_a_body_can_be_had_alone():
    wire = Wire()
    connection = wire.ask()
    wire.come(whole(b"abcdef"))
    await connection.head()
    assert await connection.read_up_to(3) == b"abc"


async def test_a_time_limit_ends_the_wait_and_not_the_answer():
    async with Bare(says(whole()[:-4], whole()[-4:], pause_s=0.2)) as server:
        port = int(server.url.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(idle_timeout_s=FAR_S), "127.0.0.1", port)
        connection.send(ASK, until=loop.time() + 0.05)
        await connection.head()
        with pytest.raises(TimeoutError):
            await connection.read()
        connection.extend(loop.time() + FAR_S)
        assert await connection.read_all() == b"fine"
        connection.close()


async def test_silence_is_limited_whatever_time_is_left():
    async with Bare(says(whole()[:-4])) as server:
        port = int(server.url.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(idle_timeout_s=0.05), "127.0.0.1", port)
        connection.send(ASK, until=loop.time() + FAR_S)
        with pytest.raises(TimeoutError):
            await read(connection)
        connection.close()
