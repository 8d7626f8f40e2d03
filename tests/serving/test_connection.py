"""The bounds of connections, on a listener of their own: no sidecar, only what uvicorn does with the class."""

import asyncio
import gc
import weakref
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from uvicorn.server import ServerState

from rheostat.serving.bounds import Bounds
from rheostat.serving.connection import MAX_AHEAD, bounded
from tests.serving.conftest import wait_until

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
BIG = b"x" * (16 * 1024 * 1024)


async def app(scope, receive, send):
    body = BIG if scope["path"] == "/big" else b"ok"
    if scope["path"] == "/names":
        while (await receive())["more_body"]:
            pass
        body = b",".join(name for name, _ in scope["headers"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    for at in range(0, len(body), 65536):
        await send({"type": "http.response.body", "body": body[at : at + 65536], "more_body": at + 65536 < len(body)})


def kept(connection, seen):
    """The class of connections, whose instances can be found in `seen`."""

    class Kept(connection):
        def connection_made(self, transport):
            seen.append(weakref.ref(self))
            super().connection_made(transport)

    return Kept


@asynccontextmanager
async def listening(cuts, seen=None, **bounds):
    given = {"max_connections": 100, "head_timeout_s": 30.0, "idle_timeout_s": 30.0, "stall_timeout_s": 30.0, **bounds}
    connection = kept(bounded(Bounds(on_cut=cuts.append, **given)), [] if seen is None else seen)
    config = uvicorn.Config(app, port=0, http=connection, lifespan="off", log_level="error", ws="none")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


@asynccontextmanager
async def connected(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def is_closed(reader):
    try:
        return await asyncio.wait_for(reader.read(), 30) == b""
    except ConnectionError:
        return True


async def ask(reader, writer):
    writer.write(GET)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    return head.splitlines()[0], await reader.readexactly(2)


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nx: 1\r\n"])
async def test_a_head_that_does_not_end_is_cut_off(start):
    cuts = []
    async with listening(cuts, head_timeout_s=0.05) as port, connected(port) as (reader, writer):
        writer.write(start)
        assert await is_closed(reader)
    assert cuts == ["head_timeout"]


async def test_the_next_head_on_a_connection_is_bounded_as_well():
    cuts = []
    async with listening(cuts, head_timeout_s=0.2) as port, connected(port) as (reader, writer):
        assert await ask(reader, writer) == (b"HTTP/1.1 200 OK", b"ok")
        writer.write(b"GET / HTTP")
        assert await is_closed(reader)
    assert cuts == ["head_timeout"]


@pytest.mark.parametrize(("start", "more"), [(b"GET / HTTP/1.1\r\nx: ", b"x"), (b"GET /", b"x"), (b"\r\n", b"\r\n")])
async def test_a_head_that_grows_without_end_is_refused(start, more):
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        writer.write(start)
        with suppress(ConnectionError):
            for _ in range(64):
                writer.write(more * 65_536)
                await writer.drain()
            assert (await reader.read()).startswith(b"HTTP/1.1 431")
    assert cuts == ["large_head"]


async def test_a_large_head_behind_a_request_that_is_being_answered_cuts_the_connection():
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        writer.write(GET.replace(b"/ ", b"/big ") + b"GET / HTTP/1.1\r\nx: ")
        reader._transport.pause_reading()
        writer.write(b"x" * 4_000_000)
        await asyncio.to_thread(wait_until, lambda: cuts)
    assert cuts == ["large_head"]


async def test_bodies_are_not_counted_as_heads():
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 30)).startswith(b"HTTP/1.1 200")
    assert cuts == []


async def test_a_connection_may_wait_for_its_next_request_for_longer_than_a_head_may_take():
    cuts = []
    async with listening(cuts, head_timeout_s=0.2) as port, connected(port) as (reader, writer):
        for _ in range(2):
            assert await ask(reader, writer) == (b"HTTP/1.1 200 OK", b"ok")
            await asyncio.sleep(0.4)
    assert cuts == []


async def test_an_answer_that_nobody_reads_is_cut_off():
    cuts = []
    async with listening(cuts, stall_timeout_s=0.05) as port, connected(port) as (reader, writer):
        writer.write(GET.replace(b"/ ", b"/big "))
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()
        await asyncio.to_thread(wait_until, lambda: cuts)
    assert cuts == ["stalled_reader"]


async def test_an_answer_that_is_read_slowly_but_surely_is_not():
    cuts = []
    async with listening(cuts, stall_timeout_s=10.0) as port, connected(port) as (reader, writer):
        writer.write(GET.replace(b"/ ", b"/big "))
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(BIG)) == BIG
    assert cuts == []


async def test_for_one_connection_too_many_the_one_idle_longest_goes():
    cuts = []
    async with listening(cuts, max_connections=2) as port, connected(port) as (first, first_writer), connected(port) as second:
        await ask(*second)
        await ask(first, first_writer)
        async with connected(port) as third:
            assert await ask(*third) == (b"HTTP/1.1 200 OK", b"ok")
            assert await is_closed(second[0])
            assert await ask(first, first_writer) == (b"HTTP/1.1 200 OK", b"ok")
    assert cuts == ["crowded"]


async def test_a_connection_that_waits_for_too_long_is_closed_without_a_word():
    cuts = []
    async with listening(cuts, idle_timeout_s=0.05) as port, connected(port) as (reader, writer):
        assert await ask(reader, writer) == (b"HTTP/1.1 200 OK", b"ok")
        assert await is_closed(reader)
    assert cuts == []


async def test_what_comes_behind_a_request_and_is_none_does_not_cost_its_answer():
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        writer.write(GET + b"no request\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), 30)
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert (said.count(b"HTTP/1.1"), said.count(b"connection: close")) == (1, 1)


async def test_a_body_that_is_no_http_is_refused_and_the_connection_closed():
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        said = await asyncio.wait_for(reader.read(), 30)
        assert said.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in said


async def test_a_broken_request_behind_another_is_dropped_and_the_other_answered():
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        writer.write(GET + b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        said = await asyncio.wait_for(reader.read(), 30)
        assert (said.count(b"HTTP/1.1"), said.count(b"200 OK")) == (1, 1)


async def test_the_rest_of_a_body_that_nobody_wants_is_bounded_too():
    cuts = []
    async with listening(cuts, head_timeout_s=0.1) as port, connected(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 30)).startswith(b"HTTP/1.1 200")
        writer.write(b"x")
        assert await is_closed(reader)
    assert cuts == ["head_timeout"]


async def test_fields_behind_a_body_are_no_headers():
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        writer.write(b"POST /names HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-late: 1\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert await reader.readexactly(22) == b"host,transfer-encoding"


async def test_many_requests_at_once_are_answered_in_their_order():
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        writer.write(GET * 50)
        for _ in range(50):
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 30)).startswith(b"HTTP/1.1 200")


async def test_an_old_client_gets_one_answer_and_the_end_of_the_connection():
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), 30)
        assert said.endswith(b"\r\n\r\nok")
        assert b"connection: close" in said


async def test_a_connection_that_is_gone_leaves_nothing_to_the_garbage_collector():
    seen = []
    gc.disable()
    try:
        async with listening([], seen) as port:
            async with connected(port) as (reader, writer):
                await ask(reader, writer)
            await asyncio.to_thread(wait_until, lambda: seen[0]() is None)
            assert len(seen) == 1
    finally:
        gc.enable()


async def test_requests_sent_ahead_are_served_up_to_a_bound_and_the_connection_closed():
    async with listening([]) as port, connected(port) as (reader, writer):
        writer.write(GET * 20_000)
        with suppress(ConnectionError):
            answers = await asyncio.wait_for(reader.read(), 30)
            assert answers.count(b"200 OK") == MAX_AHEAD
        assert reader.at_eof() or reader.exception()


async def test_nothing_more_is_read_while_requests_wait():
    transport, was_paused, all_seen = Wire(), [], asyncio.Event()

    async def noting(scope, receive, send):
        was_paused.append(transport.is_paused)
        await app(scope, receive, send)
        if len(was_paused) == 3:
            all_seen.set()

    wired(noting, transport).data_received(GET * 3)
    await all_seen.wait()
    assert was_paused == [True, True, False]


async def test_a_body_that_does_not_follow_its_answer_is_cut_off():
    cuts = []
    async with listening(cuts, head_timeout_s=0.05) as port, connected(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"ok"), 30)).startswith(b"HTTP/1.1 200")
        assert await is_closed(reader)
    assert cuts == ["head_timeout"]


async def test_a_connection_whose_answered_request_goes_on_gives_way_to_others():
    cuts = []
    async with listening(cuts, max_connections=1) as port, connected(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"ok"), 30)
        async with connected(port) as other:
            assert await ask(*other) == (b"HTTP/1.1 200 OK", b"ok")
    assert cuts == ["crowded"]


async def test_fields_behind_a_body_may_not_grow_without_end():
    cuts = []
    async with listening(cuts) as port, connected(port) as (reader, writer):
        writer.write(b"POST /names HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ")
        with suppress(ConnectionError):
            for _ in range(64):
                writer.write(b"x" * 65_536)
                await writer.drain()
        assert await is_closed(reader)
    assert cuts == ["large_head"]


@pytest.mark.parametrize("was_full", [True, False])
async def test_what_is_left_of_an_answer_is_read_in_time_or_cut_off(was_full):
    transport = Wire(unsent=1)
    connection = wired(app, transport, stall_timeout_s=0.0)
    if was_full:
        connection.pause_writing()
    connection.close()
    connection.resume_writing()
    await transport.aborted.wait()
    assert transport.is_closing()
    connection.connection_lost(None)


async def test_a_connection_that_has_sent_everything_is_just_closed():
    transport = Wire()
    connection = wired(app, transport, stall_timeout_s=0.0)
    connection.close()
    for _ in range(10):
        await asyncio.sleep(0)
    assert (transport.is_closing(), transport.aborted.is_set()) == (True, False)


class Wire(asyncio.Transport):
    """A transport that notes what it is told; `unsent` bytes stay in its buffer."""

    def __init__(self, unsent=0):
        super().__init__()
        self.unsent = unsent
        self.aborted = asyncio.Event()
        self.is_paused = self._is_closed = False

    def write(self, data):
        pass

    def get_write_buffer_size(self):
        return self.unsent

    def pause_reading(self):
        self.is_paused = True

    def resume_reading(self):
        self.is_paused = False

    def is_closing(self):
        return self._is_closed

    def close(self):
        self._is_closed = True

    def abort(self):
        self._is_closed = True
        self.aborted.set()


def wired(asgi, transport, **bounds):
    """A connection without a server."""
    given = {"max_connections": 100, "head_timeout_s": 30.0, "idle_timeout_s": 30.0, "stall_timeout_s": 30.0, **bounds}
    config = uvicorn.Config(asgi, lifespan="off", log_level="error", ws="none", interface="asgi3", proxy_headers=False)
    config.load()
    connection = bounded(Bounds(on_cut=lambda reason: None, **given))(config, ServerState(), {})
    connection.connection_made(transport)
    return connection
