"""One request and its answer: the server's side of ASGI, with as little as possible between application and socket.

Knows neither parser nor timers: its connection feeds it, and carries what it writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope

from rheostat.serving.errors import WireError, wire_error
from rheostat.serving.presence import PRESENCE, Presence

log = logging.getLogger(__name__)

HIGH_WATER_BYTES = 64 * 1024  # of a body that the application has not read; then its client has to wait
BODILESS = (204, 304)
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

RawHeaders = Iterable[tuple[bytes, bytes]]
Framed = Callable[[bytes, bool], bytes]

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_FAILED = wire_error(500, "the request failed here, and the log says why")


class Carrier(Protocol):
    """The connection, as an exchange sees it; `is_full` while it takes no more, `common` are headers of every answer."""

    is_full: bool

    @property
    def common(self) -> Sequence[tuple[bytes, bytes]]:
        """Names and values."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    async def drained(self) -> None:
        """Wait until it takes more."""
        ...

    def hold(self) -> None:
        """Read no more for now."""
        ...

    def read_on(self) -> None:
        """Read again."""
        ...

    def answered(self, exchange: Exchange) -> None:
        """Go on behind a complete answer."""
        ...

    def close(self) -> None:
        """Close it behind what was written."""
        ...


class Exchange:
    """A request on its way in and its answer on its way out, as the messages of ASGI.

    Args:
        carrier: the connection.
        scope: of the request; its `state` will tell whether the client is there.
        keeps_alive: whether the connection may be used again.
        wants_continue: whether the client sends its body only when told to.

    Attributes:
        presence: of the client.
        has_begun: whether the client was sent anything of the answer.
        is_over: whether the answer is complete, or there is nobody to read it.
    """

    def __init__(self, carrier: Carrier, scope: Scope, *, keeps_alive: bool, wants_continue: bool) -> None:
        self.presence = scope["state"][PRESENCE] = Presence()
        self.keeps_alive = keeps_alive
        self.has_begun = self.is_over = False
        self._carrier = carrier
        self._scope = scope
        self._wants_continue = wants_continue
        self._parts: list[bytes] = []
        self._n_bytes = 0
        self._has_news = False
        self._news: asyncio.Future[None] | None = None
        self._head = b""
        self._framed: Framed = _as_it_is
        self._left: int | None = None  # bytes of the body, where the head says how many

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer; one that does not, for whatever reason, is answered for."""
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:  # a request must not fail in silence, nor take the connection's other requests with it
            log.exception("the application failed on %s %s", self._scope["method"], self._scope["path"][:100])
        finally:
            if not self.is_over:
                self._break_off()

    def feed(self, part: bytes) -> None:
        """Take in a part of the body; nobody reads it behind a complete answer."""
        if self.is_over:
            return
        self._parts.append(part)
        self._n_bytes += len(part)
        if self._n_bytes > HIGH_WATER_BYTES:
            self._carrier.hold()
        self._tell()

    def feed_end(self) -> None:
        """The body is here to its end."""
        self.presence.has_sent_all = True
        self._tell()

    def lose(self) -> None:
        """The client is gone."""
        self.is_over = True
        self._tell()
        self.presence.leave()

    async def receive(self) -> Message:
        """The next part of the body, or that there is nobody to read an answer."""
        if self._wants_continue and not self.has_begun:
            self._wants_continue = False
            self._carrier.write(CONTINUE)
        if not (self._has_news or self.is_over):
            await self._wait()
        if self.is_over:
            return {"type": "http.disconnect"}
        body = b"".join(self._parts)
        self._parts.clear()
        self._n_bytes, self._has_news = 0, False
        return {"type": "http.request", "body": body, "more_body": not self.presence.has_sent_all}

    async def send(self, message: Message) -> None:
        """Take the head or a part of the answer, waiting for a slow reader. The head leaves with the first part.

        Raises:
            RuntimeError: that is no valid answer; nothing of it was sent.
        """
        if self._carrier.is_full and not self.is_over:
            await self._carrier.drained()
        if self.is_over:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
        else:
            self._write(message.get("body", b""), more=message.get("more_body", False))

    def refuse(self, error: WireError) -> None:
        """Answer in place of the application; the connection ends behind it."""
        self.keeps_alive = False
        self._begin(error.status, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(error.body))])
        self._write(error.body, more=False)

    def _break_off(self) -> None:
        if self.has_begun:
            self._carrier.close()
        else:
            self.refuse(_FAILED)

    def _tell(self) -> None:
        self._has_news = True
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _wait(self) -> None:
        self._carrier.read_on()
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def _begin(self, status: int, headers: RawHeaders) -> None:
        lines, length, closes = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status], None, False
        for name, value in (*self._carrier.common, *headers):
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                closes = value.lower() == b"close"
            lines.append(b"%b: %b\r\n" % (name, value))
        self.keeps_alive = self.keeps_alive and not closes
        if not (self.keeps_alive or closes):
            lines.append(b"connection: close\r\n")
        self._framed = _as_it_is
        if self._scope["method"] == "HEAD" or status in BODILESS:
            self._framed, length = _left_out, None
        elif length is None and self._scope["http_version"] != "1.0":
            self._framed = _in_chunks
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise RuntimeError("a header of the answer breaks its line")
        self._head, self._left = head + b"\r\n", length

    def _write(self, body: bytes, *, more: bool) -> None:
        if not (self._head or self.has_begun):
            raise RuntimeError("an answer begins with its head")
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the answer is not as long as its head says")
        if data := self._head + self._framed(body, more):
            self.has_begun = True
            self._head = b""
            self._carrier.write(data)
        if not more:
            self.is_over = True
            self._tell()
            self._carrier.answered(self)


def _as_it_is(body: bytes, more: bool) -> bytes:  # noqa: ARG001
    return body


def _left_out(body: bytes, more: bool) -> bytes:  # noqa: ARG001
    return b""


def _in_chunks(body: bytes, more: bool) -> bytes:
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return chunk if more else chunk + LAST_CHUNK
