"""Load on an HTTP server from one event loop over bare sockets: closed loop, open loop and streams.

Knows nothing of what is asked. A generator with an HTTP client in it would take longer than what it is to measure.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from benchmarks.serving.upstream import content_length

SENT_AT = re.compile(rb" t=(\d+)")
LAST_CHUNK = b"\r\n0\r\n\r\n"
MAX_CONNECTIONS = 512  # of an open loop; what comes while all are busy waits, and its wait counts


@dataclass(slots=True)
class Window:
    """What was seen while a load lasted: seconds of every answer or chunk, and how many answers were no 200."""

    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        """Good answers a second."""
        return len(self.latencies_s) / self.seconds

    def quantile_us(self, share: float) -> float:
        """The latency that this share of the answers did not exceed, in microseconds; nan without any."""
        return float(np.quantile(self.latencies_s, share)) * 1e6 if self.latencies_s else float("nan")


def request(port: int, body: bytes) -> bytes:
    """A chat completion with this body, as bytes to send."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """A kept connection with one request at a time; `delays_s` grows by how long each streamed chunk was under way."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []
        self._done: asyncio.Future[bool] | None = None

    @classmethod
    async def to(cls, port: int) -> Connection:
        """A connection to a port of this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    async def ask(self, request: bytes) -> bool:
        """Send a request and wait for the end of its answer; whether its status was 200."""
        self._received, self._missing = b"", -1
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._done

    def data_received(self, data: bytes) -> None:
        """Look whether the answer is complete; of a stream only the first and the last bytes are kept."""
        now_ns = time.monotonic_ns()
        self.delays_s += [(now_ns - int(sent)) / 1e9 for sent in SENT_AT.findall(data)]
        self._received += data
        if self._missing < 0 and (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            self._ok = head.startswith(b"HTTP/1.1 200")
            self._missing = end + 4 + content_length(head) if b"content-length" in head.lower() else 0
        if self._missing == 0:
            self._received = self._received[-len(LAST_CHUNK) :]
        complete = len(self._received) >= self._missing > 0 or (self._missing == 0 and self._received == LAST_CHUNK)
        if complete and self._done is not None and not self._done.done():
            self._done.set_result(self._ok)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def close(self) -> None:
        """Close it."""
        self._transport.close()


async def closed_loop(port: int, requests: Sequence[bytes], *, clients: int, seconds: float) -> Window:
    """Clients that each ask again as soon as they have their answer."""
    window, ends = Window(), time.perf_counter() + seconds
    turns = itertools.cycle(requests)

    async def client(connection: Connection) -> None:
        while (began := time.perf_counter()) < ends:
            _count(window, began, ok=await connection.ask(next(turns)))

    connections = [await Connection.to(port) for _ in range(clients)]
    began = time.perf_counter()
    await asyncio.gather(*map(client, connections))
    window.seconds = time.perf_counter() - began
    _close(connections)
    return window


async def open_loop(port: int, requests: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0) -> Window:
    """Requests that come at random at `rate` a second, however long answers take; latency counts from when each came."""
    window, free, places = Window(), deque[Connection](), asyncio.Semaphore(MAX_CONNECTIONS)
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, max(1, round(rate * seconds))))
    turns = itertools.cycle(requests)

    async def one(came: float) -> None:
        async with places:
            connection = free.pop() if free else await Connection.to(port)
            _count(window, came, ok=await connection.ask(next(turns)))
            free.append(connection)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for due_at in began + due:
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            # Not from `due_at`: how late the timer was is not the server's doing, and no answer holds up this loop.
            group.create_task(one(time.perf_counter()))
    window.seconds = time.perf_counter() - began
    _close(free)
    return window


async def streams(port: int, request: bytes, *, clients: int, seconds: float) -> Window:
    """Clients that each read one streamed answer after the other; a latency is one chunk's way from the upstream."""
    window, ends = Window(), time.perf_counter() + seconds

    async def client(connection: Connection) -> None:
        while time.perf_counter() < ends:
            window.failed += not await connection.ask(request)

    connections = [await Connection.to(port) for _ in range(clients)]
    began = time.perf_counter()
    await asyncio.gather(*map(client, connections))
    window.seconds = time.perf_counter() - began
    window.latencies_s = [delay for connection in connections for delay in connection.delays_s]
    _close(connections)
    return window


def _count(window: Window, began: float, *, ok: bool) -> None:
    if ok:
        window.latencies_s.append(time.perf_counter() - began)
    else:
        window.failed += 1


def _close(connections: Sequence[Connection] | deque[Connection]) -> None:
    for connection in connections:
        connection.close()
