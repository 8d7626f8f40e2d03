"""Bytes of a stream on their way through: forwarded verbatim and scanned, not parsed; read once, when it is over."""

from __future__ import annotations

from typing import Protocol

import msgspec

MARK = b"\ndata: [DONE]"
KEPT_BYTES = 4 * 1024 * 1024


class Sink(Protocol):
    """Where a stream is written; nothing is sent before the first write."""

    started: bool

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting for a slow reader."""
        ...


class Passage:
    """Holds the end mark of a stream back, so that something can be put before it.

    A newline inside a JSON text is escaped, so the mark after a raw newline cannot be part of an answer.
    """

    def __init__(self) -> None:
        self.done = False
        self._held = b""
        self._seen: list[bytes] = []
        self._n_seen = 0

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that can be sent on now."""
        if self.done:
            return b""
        held = self._held + chunk
        at = held.find(MARK)
        self.done = at >= 0
        cut = at + 1 if self.done else len(held) - _overlap(held)
        self._held = held[cut:]
        self._keep(held[:cut])
        return held[:cut]

    def text(self) -> str:
        """The content of choice 0, from what passed (at most 4 MB of it)."""
        lines = b"".join(self._seen).split(b"\n")
        return "".join(_content(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: {"))

    def _keep(self, data: bytes) -> None:
        if self._n_seen < KEPT_BYTES:
            self._seen.append(data)
            self._n_seen += len(data)


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


_CHUNK = msgspec.json.Decoder(_Chunk)


def _content(line: bytes) -> str:
    try:
        return "".join(choice.delta.content or "" for choice in _CHUNK.decode(line).choices if choice.index == 0)
    except msgspec.DecodeError:
        return ""


def _overlap(held: bytes) -> int:
    """How many bytes at the end may be the beginning of the mark."""
    return next((n for n in range(min(len(MARK) - 1, len(held)), 0, -1) if held.endswith(MARK[:n])), 0)
