"""Connections with bounds: a head without end, an answer that is never read and an idle crowd cost a timer each.

A request that is being served is bounded elsewhere; this is about clients that keep a socket and do nothing with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rheostat.serving.errors import wire_error
from rheostat.serving.presence import PRESENCE, Presence

HEAD, STALL, CROWD, LARGE = "head_timeout", "stalled_reader", "crowded", "large_head"
# More than any client sends, and what one read brings comes on top: a parser keeps a head until it is complete.
MAX_HEAD_BYTES = 64 * 1024

OnCut = Callable[[str], None]


class Bounds:
    """The bounds of one listener, and its connections that wait for a request.

    Args:
        max_connections: open at once; for one more, the one that has waited longest is closed.
        head_timeout_s: from the start of a connection, or of another head on it, to the end of that head.
        stall_timeout_s: for which a full send buffer may stay unread.
        on_cut: told why a connection was closed on its client.
    """

    def __init__(self, *, max_connections: int, head_timeout_s: float, stall_timeout_s: float, on_cut: OnCut) -> None:
        self.head_timeout_s = head_timeout_s
        self.stall_timeout_s = stall_timeout_s
        self.on_cut = on_cut
        self.n_open = 0
        self._max_connections = max_connections
        self._waiting: dict[BoundedConnection, None] = {}  # in the order in which they began to wait

    def opened(self) -> None:
        """Count a connection, and make room for it; requests that are being served are never cut."""
        self.n_open += 1
        if self.n_open > self._max_connections and self._waiting:
            next(iter(self._waiting)).cut(CROWD)

    def closed(self) -> None:
        """Count a connection that is gone."""
        self.n_open -= 1

    def waits(self, connection: BoundedConnection) -> None:
        """Note that a connection waits for a request."""
        self._waiting[connection] = None

    def serves(self, connection: BoundedConnection) -> None:
        """Note that a connection has one, or is gone."""
        self._waiting.pop(connection, None)


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection under `bounds`."""

    bounds: Bounds
    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._present: deque[Presence] = deque()  # of requests without an answer yet, the one being served first
        self.bounds.opened()
        self.bounds.waits(self)
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop all timers."""
        self._has_head()
        self.resume_writing()
        self.bounds.closed()
        super().connection_lost(exc)
        for presence in self._present:
            presence.leave()

    def data_received(self, data: bytes) -> None:
        """Take in what came, unless it goes on with a head that is too large already."""
        if self._in_head:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
                return
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes and self._timer is None and not self._present:
            self._time_head()

    def on_message_complete(self) -> None:
        """What comes now is the next head."""
        self._in_head = True
        self._newest.has_sent_all = True
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """A request is there."""
        self._in_head, self._head_bytes = False, 0
        self._has_head()
        self._newest = Presence()
        self._present.append(self._newest)
        self.scope["state"][PRESENCE] = self._newest
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it came already."""
        self._present.popleft()
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self.bounds.waits(self)
            if self._head_bytes:
                self._time_head()

    def pause_writing(self) -> None:
        """The send buffer is full: the client has to read on."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.bounds.stall_timeout_s, self.cut, STALL)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def cut(self, reason: str) -> None:
        """Close the connection on the client."""
        self._has_head()
        self.bounds.on_cut(reason)
        self.transport.abort()

    def _refuse_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.cut(LARGE)  # an answer is on its way, which another one would garble
            return
        self._has_head()
        self.bounds.on_cut(LARGE)
        self.transport.write(_TOO_LARGE)
        self.transport.close()

    def _time_head(self) -> None:
        self._timer = self.loop.call_later(self.bounds.head_timeout_s, self.cut, HEAD)

    def _has_head(self) -> None:
        self.bounds.serves(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _too_large() -> bytes:
    body = wire_error(431, f"the head is larger than {MAX_HEAD_BYTES} bytes: send less in it", param="headers", code="head_too_large").body
    head = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


_TOO_LARGE = _too_large()


def bounded(bounds: Bounds) -> type[Any]:
    """A connection class for one listener."""
    return type("BoundedConnection", (BoundedConnection,), {"bounds": bounds})
