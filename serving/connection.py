"""One client's connection: HTTP/1.1 in and out, requests one after the other, and bounds on what is no request.

Parsed by llhttp, strict. A head without end, an answer that is never read and an idle crowd cost a timer each. Takes the
place of uvicorn's own connection; uvicorn's server still listens, counts and drains.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import unquote

import httptools
from starlette.types import Scope
from uvicorn import Config
from uvicorn.server import ServerState

from rheostat.serving.bounds import HEAD, LARGE, STALL, Bounds
from rheostat.serving.errors import WireError, wire_error
from rheostat.serving.exchange import Exchange

# More than any client sends, and what one read brings comes on top: a parser keeps a head until it is complete.
MAX_HEAD_BYTES = 64 * 1024
MAX_AHEAD = 64  # requests sent ahead of their answers; what comes behind them is not served
ASGI = {"version": "3.0", "spec_version": "2.3"}

_TOO_LARGE = wire_error(431, f"the head is larger than {MAX_HEAD_BYTES} bytes: send less in it", param="headers", code="head_too_large")
_NO_HTTP = wire_error(400, "this is no HTTP/1.1 request", param="protocol")


class Connection(asyncio.Protocol):
    """A connection under `bounds`; the arguments are uvicorn's, which also tells it to `shutdown`."""

    bounds: Bounds

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.is_full = False
        self._app = config.loaded_app
        self._server = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        # What a client says behind a request that ends the connection is dropped, and no error.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._exchanges: deque[Exchange] = deque()  # without a complete answer, the one being served first
        self._newest: Exchange | None = None
        self._in_head = True
        self._head_bytes = 0
        self._is_deaf = self._is_draining = self._is_held = self._is_idle = False
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None

    # What uvicorn's server asks of a connection

    def shutdown(self) -> None:
        """Close it, behind the answers that are under way."""
        self._is_draining = True
        if self._exchanges:
            self._exchanges[-1].keeps_alive = False
        else:
            self.close()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._server_address = _address(transport, "sockname")
        self._client_address = _address(transport, "peername")
        self._server.connections.add(cast(Any, self))
        self.bounds.opened()
        self.bounds.waits(self)
        self._time(self.bounds.head_timeout_s, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop all timers, and stop what is done for a client that is gone."""
        del exc
        self._server.connections.discard(cast(Any, self))
        self._is_deaf = True
        self._stop_waiting()
        self._unstall()
        self.resume_writing()
        self.bounds.closed()
        for exchange in self._exchanges:
            exchange.lose()
        # Both refer back to here, and would keep it until the garbage collector looks, which it seldom does.
        self._parser = self._newest = None

    def data_received(self, data: bytes) -> None:
        """Take in what came, unless it goes on with a head, or with fields behind a body, that are too large already."""
        if self._is_deaf:
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
            return
        self._head_bytes += len(data)
        if self._is_idle:
            self._untime()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._is_deaf = True  # what follows would be another protocol; the application refuses the offer
        except httptools.HttpParserError:
            self._refuse(_NO_HTTP)
        if self._timer is None and not self._exchanges and not self._is_deaf:
            self._time(self.bounds.head_timeout_s, self._late)

    def pause_writing(self) -> None:
        """The send buffer is full: the client has to read on."""
        self.is_full = True
        self._stall()

    def resume_writing(self) -> None:
        """The client reads; one that closes has to read to the end."""
        self.is_full = False
        if not self._transport.is_closing():
            self._unstall()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # The parser's callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._wants_continue = False

    def on_url(self, url: bytes) -> None:
        """Keep a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; one that comes behind a body is none."""
        if not self._in_head:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._wants_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A request is there: serve it, or let it wait for its turn.

        Raises:
            OverflowError: too many wait already; this stops the parser.
        """
        if len(self._exchanges) >= MAX_AHEAD:
            raise OverflowError(f"{MAX_AHEAD} requests wait for their answers")
        scope = self._scope()
        self._in_head, self._head_bytes = False, 0
        self._stop_waiting()
        exchange = Exchange(self, scope, keeps_alive=self._may_go_on(scope), wants_continue=self._wants_continue)
        self._newest = exchange
        self._exchanges.append(exchange)
        if len(self._exchanges) == 1:
            self._serve(exchange)
        else:
            self.hold()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        self._head_bytes = 0
        if self._newest is not None:
            self._newest.feed(body)

    def on_message_complete(self) -> None:
        """What comes now is the next head."""
        self._in_head, self._head_bytes = True, 0
        if self._newest is not None:
            self._newest.feed_end()
        if not self._exchanges:
            self._rest()

    # What an exchange asks of its connection

    @property
    def common(self) -> Sequence[tuple[bytes, bytes]]:
        """Headers of every answer, such as the date."""
        return self._server.default_headers

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has read enough."""
        self._room = self._loop.create_future()
        await self._room

    def hold(self) -> None:
        """Read no more for now."""
        if not self._is_held:
            self._is_held = True
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Read again, unless requests wait that came before."""
        if self._is_held and len(self._exchanges) <= 1:
            self._is_held = False
            self._transport.resume_reading()

    def answered(self, exchange: Exchange) -> None:
        """Serve the next request, or wait for one."""
        self._exchanges.popleft()
        self._server.total_requests += 1
        if not exchange.keeps_alive:
            self.close()
            return
        self.read_on()
        if self._exchanges:
            self._serve(self._exchanges[0])
        elif self._in_head:
            self._rest()
        else:
            self._await_end()

    def close(self) -> None:
        """Close it behind what was written, which has to be read; nothing more is heard."""
        self._is_deaf = True
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._stall()

    def cut(self, reason: str) -> None:
        """Close it on the client."""
        self._stop_waiting()
        self.bounds.on_cut(reason)
        self._transport.abort()

    def _serve(self, exchange: Exchange) -> None:
        task = self._loop.create_task(exchange.run(self._app))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _may_go_on(self, scope: Scope) -> bool:
        """Whether another request may follow: not behind one of HTTP/1.0, whose answer ends with the connection."""
        is_last = self._is_draining or scope["http_version"] == "1.0" or self._parser.should_upgrade()
        return not is_last and self._parser.should_keep_alive()

    def _scope(self) -> Scope:
        url = httptools.parse_url(self._url)
        path = url.path.decode("ascii")
        return {
            "type": "http",
            "asgi": ASGI,
            "http_version": self._parser.get_http_version(),
            "server": self._server_address,
            "client": self._client_address,
            "scheme": "http",
            "method": self._parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self._headers,
            "state": self._app_state.copy(),
        }

    def _refuse_head(self) -> None:
        if self._exchanges:
            self.cut(LARGE)  # an answer is on its way, and what comes behind it is of no use
            return
        self.bounds.on_cut(LARGE)
        self._refuse(_TOO_LARGE)

    def _refuse(self, error: WireError) -> None:
        """Say that what came is no request, where no earlier one is to be answered; the connection ends with its answer."""
        self._is_deaf = True
        self._stop_waiting()
        if not self._exchanges:
            self._exchanges.append(Exchange(self, {**_NO_REQUEST, "state": {}}, keeps_alive=False, wants_continue=False))
        elif self._exchanges[-1].presence.has_sent_all:
            self._exchanges[-1].keeps_alive = False
            return
        broken = self._exchanges[-1]
        if broken.has_begun:
            self.close()
        elif len(self._exchanges) == 1:
            broken.refuse(error)
        else:
            self._exchanges.pop()
            self._exchanges[-1].keeps_alive = False

    def _late(self) -> None:
        self.cut(HEAD)

    def _rest(self) -> None:
        """Wait for another request."""
        self._untime()
        self._is_idle = True
        self.bounds.waits(self)
        self._time(self.bounds.idle_timeout_s, self.close)

    def _await_end(self) -> None:
        """Wait for the end of a body whose request is answered already."""
        self._untime()
        self.bounds.waits(self)
        self._time(self.bounds.head_timeout_s, self._late)

    def _stall(self) -> None:
        if self._stalled is None:
            self._stalled = self._loop.call_later(self.bounds.stall_timeout_s, self.cut, STALL)

    def _unstall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _stop_waiting(self) -> None:
        self.bounds.serves(self)
        self._untime()

    def _time(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(seconds, then)

    def _untime(self) -> None:
        self._is_idle = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_NO_REQUEST = {"method": "GET", "http_version": "1.1"}


def _address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    """Host and port of one end; of IPv6 there is more, which nobody needs."""
    address = transport.get_extra_info(name)
    return (address[0], address[1]) if address else None


def bounded(bounds: Bounds) -> type[Any]:
    """A connection class for one listener."""
    return type("BoundedConnection", (Connection,), {"bounds": bounds})
