"""A server over bare sockets that says exactly what a test tells it to, byte for byte."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")

Say = Callable[["Bare", bytes, asyncio.StreamWriter], Awaitable[None]]


class Bare:
    """Every request is kept and handed to `say`, which writes what it likes."""

    def __init__(self, say: Say) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self._say = say
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Bare:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                found = LENGTH.search(head)
                self.requests.append(head + await reader.readexactly(int(found[1]) if found else 0))
                await self._say(self, self.requests[-1], writer)
                await writer.drain()
        self.gone.set()
        self._open.discard(writer)
        writer.close()


def says(*parts: bytes, close: bool = False, pause_s: float = 0.0) -> Say:
    """The same bytes for every request, in pieces."""

    async def say(_: Bare, __: bytes, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if close:
            writer.close()

    return say


def whole(body: bytes = b"fine", *, status: int = 200, more: str = "") -> bytes:
    """A whole answer."""
    return f"HTTP/1.1 {status} Said\r\ncontent-type: text/plain\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body
