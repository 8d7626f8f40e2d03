"""One request and its answer, on a connection that keeps what is written: what leaves, and when, and what never does."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.serving.exchange import Exchange
from rheostat.serving.presence import ClientGone, presence_of

OK = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def sized(size):
    return {**OK, "headers": [(b"content-length", b"%d" % size)]}


def part(body, more=False):
    return {"type": "http.response.body", "body": body, "more_body": more}


class Kept:
    """A connection that keeps what is written."""

    common = ((b"date", b"today"),)

    def __init__(self):
        self.is_full = False
        self.written = []
        self.told = []

    def write(self, data):
        self.written.append(data)

    async def drained(self):
        self.told.append("waited")
        self.is_full = False

    def hold(self):
        self.told.append("hold")

    def read_on(self):
        self.told.append("read_on")

    def answered(self, exchange):
        self.told.append("answered")

    def close(self):
        self.told.append("close")

    @property
    def said(self):
        return b"".join(self.written)


def exchange(*, method="POST", version="1.1", keeps_alive=True, wants_continue=False):
    line = Kept()
    scope = {"method": method, "path": "/", "http_version": version, "state": {}}
    return line, Exchange(line, scope, keeps_alive=keeps_alive, wants_continue=wants_continue)


async def answer(messages, **how):
    line, asked = exchange(**how)

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    await asked.run(app)
    return line


@given(pieces=st.lists(st.binary(max_size=50), min_size=1))
def test_a_body_comes_in_as_it_was_sent_however_it_was_cut(pieces):
    async def read():
        _, asked = exchange()
        for piece in pieces:
            asked.feed(piece)
        asked.feed_end()
        message = await asked.receive()
        return message["body"], message["more_body"]

    assert asyncio.run(read()) == (b"".join(pieces), False)


async def test_a_part_of_a_body_is_given_as_it_comes():
    _, asked = exchange()
    reading = asyncio.create_task(asked.receive())
    await asyncio.sleep(0)
    asked.feed(b"a")
    assert await reading == {"type": "http.request", "body": b"a", "more_body": True}
    asked.feed_end()
    assert await asked.receive() == {"type": "http.request", "body": b"", "more_body": False}


async def test_a_sender_that_is_faster_than_the_application_has_to_wait():
    line, asked = exchange()
    asked.feed(b"x" * 70_000)
    assert line.told == ["hold"]
    await asked.receive()
    reading = asyncio.create_task(asked.receive())
    await asyncio.sleep(0)
    assert line.told == ["hold", "read_on"]
    asked.feed_end()
    await reading


async def test_head_and_body_leave_in_one_write():
    line = await answer([sized(2), part(b"ok")])
    assert line.written == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\nok"]
    assert line.told == ["answered"]


@given(pieces=st.lists(st.binary(max_size=20)))
def test_a_body_of_unknown_length_goes_out_in_chunks_that_say_the_same(pieces):
    line = asyncio.run(answer([OK, *(part(piece, more=True) for piece in pieces), part(b"")]))
    head, _, rest = line.said.partition(b"\r\n\r\n")
    assert b"\r\ntransfer-encoding: chunked" in head
    said = b""
    while size := int(rest[: rest.index(b"\r\n")], 16):
        rest = rest[rest.index(b"\r\n") + 2 :]
        said, rest = said + rest[:size], rest[size + 2 :]
    assert (said, rest) == (b"".join(pieces), b"0\r\n\r\n")


async def test_an_old_client_gets_no_chunks_and_no_second_answer():
    line = await answer([OK, part(b"ok")], version="1.0", keeps_alive=False)
    assert line.said.endswith(b"connection: close\r\n\r\nok")
    assert b"chunked" not in line.said


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_without_a_body_has_none(method, status):
    line = await answer([{**sized(2), "status": status}, part(b"ok")], method=method)
    assert line.said.endswith(b"\r\n\r\n")
    assert line.told == ["answered"]


async def test_an_application_may_close_the_connection():
    line, asked = exchange()

    async def app(scope, receive, send):
        await send({**sized(0), "headers": [(b"content-length", b"0"), (b"connection", b"close")]})
        await send(part(b""))

    await asked.run(app)
    assert not asked.keeps_alive
    assert line.said.count(b"connection: close") == 1


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked():
    line, asked = exchange(wants_continue=True)
    asked.feed_end()
    await asked.receive()
    assert line.said == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_a_client_that_reads_slowly_is_waited_for():
    line, asked = exchange()
    line.is_full = True
    await asked.send(OK)
    assert line.told == ["waited"]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [OK],
        [part(b"ok")],
        [OK, OK, {**OK, "headers": [(b"x", b"a\r\nb: c")]}],
        [{**OK, "headers": [(b"x\n", b"a")]}],
        [sized(1), part(b"ok")],
        [sized(3), part(b"ok")],
    ],
    ids=["nothing", "only a head", "no head", "a split header", "a split name", "too long", "too short"],
)
async def test_an_application_that_does_not_answer_is_answered_for(messages):
    line = await answer(messages)
    assert line.said.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close" in line.said
    assert line.told == ["answered"]


async def test_an_answer_that_breaks_off_closes_the_connection():
    line = await answer([OK, part(b"half", more=True)])
    assert line.told == ["close"]


async def test_a_client_that_leaves_ends_the_work_and_hears_no_more():
    line, asked = exchange()

    async def app(scope, receive, send):
        with pytest.raises(ClientGone):
            await presence_of(scope).during(asyncio.Event().wait())
        assert await receive() == {"type": "http.disconnect"}
        await send(OK)
        await send(part(b"late"))

    running = asyncio.create_task(asked.run(app))
    await asyncio.sleep(0)
    asked.lose()
    await running
    assert line.said == b""


async def test_a_client_that_leaves_while_it_sends_is_not_waited_for():
    _, asked = exchange()
    reading = asyncio.create_task(asked.receive())
    await asyncio.sleep(0)
    asked.lose()
    assert await reading == {"type": "http.disconnect"}
