"""The bounds of one listener: how long its connections may take over what is no request, and how many may wait for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

HEAD, STALL, CROWD, LARGE = "head_timeout", "stalled_reader", "crowded", "large_head"

OnCut = Callable[[str], None]


class Waiting(Protocol):
    """A connection that may be closed for another."""

    def cut(self, reason: str) -> None:
        """Close the connection on its client."""
        ...


class Bounds:
    """The bounds, and the connections that wait for a request.

    Args:
        max_connections: open at once; for one more, the one that has waited longest is closed.
        head_timeout_s: from the start of a connection, or of another head on it, to the end of that head.
        idle_timeout_s: for which a connection may wait for its next request.
        stall_timeout_s: for which a full send buffer may stay unread.
        on_cut: told why a connection was closed on its client.
    """

    def __init__(
        self, *, max_connections: int, head_timeout_s: float, idle_timeout_s: float, stall_timeout_s: float, on_cut: OnCut
    ) -> None:
        self.head_timeout_s = head_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self.stall_timeout_s = stall_timeout_s
        self.on_cut = on_cut
        self.n_open = 0
        self._max_connections = max_connections
        self._waiting: dict[Waiting, None] = {}  # in the order in which they began to wait

    def opened(self) -> None:
        """Count a connection, and make room for it; requests that are being served are never cut."""
        self.n_open += 1
        if self.n_open > self._max_connections and self._waiting:
            next(iter(self._waiting)).cut(CROWD)

    def closed(self) -> None:
        """Count a connection that is gone."""
        self.n_open -= 1

    def waits(self, connection: Waiting) -> None:
        """Note that a connection waits for a request."""
        self._waiting[connection] = None

    def serves(self, connection: Waiting) -> None:
        """Note that a connection has one, or is gone."""
        self._waiting.pop(connection, None)
