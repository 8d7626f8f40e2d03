"""One kept connection to an HTTP/1.1 server: a request out, its answer in as it comes. Knows no pool and no JSON.

The parser is llhttp, strict: what breaks the rules of HTTP breaks the connection. There are no layers in between, since
this is on the way of every token.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

MAX_HEAD_BYTES = 64 * 1024
HIGH_WATER_BYTES = 256 * 1024  # of an answer that nobody reads; then the server has to wait


class BrokenError(ConnectionError):
    """The server closed the connection, or broke the rules of HTTP."""


class Connection(asyncio.Protocol):
    """One exchange at a time: `send`, await `head`, then `read` until it gives nothing.

    Attributes:
        status: of the answer, once its head is there.
        headers: of the answer, names in lower case; of several with one name the last.
    """

    def __init__(self, *, idle_timeout_s: float) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._idle_timeout_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._until = self._due = self._timer_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._buffered_bytes = self._head_bytes = 0
        self._has_head = self._is_interim = self._keeps_alive = self._ends_with_connection = False
        self._is_paused = False
        self._is_complete = True  # nothing is asked yet

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self._error is None and not self._transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether the answer came to its end, and the server keeps the connection for another."""
        return self._is_complete and self._keeps_alive and self.is_open

    @property
    def content_type(self) -> str:
        """The answer's media type, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def send(self, request: bytes, *, until: float) -> None:
        """Send a request; its answer is waited for until that time of the loop, and for no part longer than the idle timeout."""
        self.read_nowait()  # of the answer before, what nobody wanted
        self.status, self.headers = 0, {}
        self._head_bytes = 0
        self._has_head = self._is_interim = self._keeps_alive = self._ends_with_connection = False
        self._is_complete = False
        self._until = until
        self._transport.write(request)

    async def head(self) -> None:
        """Wait for status and headers; errors as `read`."""
        while not self._has_head:
            await self._more()

    async def read(self) -> bytes:
        """The bytes of the body that came since; none at its end.

        Raises:
            TimeoutError: nothing came in time. What comes later can still be read.
            OSError: the connection broke.
        """
        while not self._chunks:
            if self._is_complete:
                return b""
            await self._more()
        return self.read_nowait()

    async def read_all(self) -> bytes:
        """The whole body; errors as `read`."""
        chunks = []
        while chunk := await self.read():
            chunks.append(chunk)
        return b"".join(chunks)

    async def read_up_to(self, n_bytes: int) -> bytes:
        """At most so much of the body, from its beginning; errors as `read`."""
        body = b""
        while len(body) < n_bytes and (chunk := await self.read()):
            body += chunk
        return body[:n_bytes]

    def read_nowait(self) -> bytes:
        """The bytes that are there, which may be none."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered_bytes = 0
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def extend(self, until: float) -> None:
        """Wait until another time of the loop."""
        self._until = until

    def close(self) -> None:
        """Close it, whatever is under way."""
        self._transport.abort()

    async def _more(self) -> None:
        """Wait until something came, or nothing will."""
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        self._due = min(self._until, self._loop.time() + self._idle_timeout_s)
        if self._timer is None or self._due < self._timer_due:
            self._time()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _time(self) -> None:
        """Look at the clock when it is due. A timer that was set before goes on: most waits end long before theirs would."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = self._due
        self._timer = self._loop.call_at(self._due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._due:
            self._time()
        else:
            self._waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        """Note why nothing more will come, unless that is known, and let go of the connection."""
        self._error = self._error or error
        self._transport.abort()
        self._wake()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer: well, where the server ends it that way."""
        if self._timer is not None:
            self._timer.cancel()
        self._is_complete = self._is_complete or (exc is None and self._has_head and self._ends_with_connection)
        self._fail(exc or BrokenError("it closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        if self._is_complete:
            self._fail(BrokenError("it sent more than was asked for"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(BrokenError(f"it does not speak HTTP: {error}"))
            return
        self._head_bytes += 0 if self._has_head else len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fail(BrokenError(f"its headers are longer than {MAX_HEAD_BYTES} bytes"))
        self._wake()

    # The parser's callbacks. Of a second answer that nobody asked for they are called too.

    def on_message_begin(self) -> None:
        """Notice an answer that nobody asked for."""
        self._keeps_alive = self._keeps_alive and not self._is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if not self._is_complete:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is there, unless it is one of those that only announce it."""
        if self._is_complete:
            return
        status = self._parser.get_status_code()
        self._is_interim = status < 200
        if self._is_interim:
            self.headers = {}
            return
        self.status = status
        self._keeps_alive = self._parser.should_keep_alive()
        self._ends_with_connection = "content-length" not in self.headers and "transfer-encoding" not in self.headers
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if self._is_complete:
            return
        self._chunks.append(body)
        self._buffered_bytes += len(body)
        if self._buffered_bytes > HIGH_WATER_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._is_complete = self._is_complete or not self._is_interim
        self._is_interim = False
