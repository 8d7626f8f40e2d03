"""Bytes of a stream on their way through: forwarded verbatim, with one thing put in before the end mark."""

from __future__ import annotations

from typing import Protocol

MARK = b"\ndata: [DONE]"


class Sink(Protocol):
    """Where a stream is written; nothing is sent before the first write."""

    @property
    def started(self) -> bool:
        """Whether the client was sent anything."""
        ...

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

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that can be sent on now."""
        if self.done:
            return b""
        held = self._held + chunk
        at = held.find(MARK)
        self.done = at >= 0
        cut = at + 1 if self.done else len(held) - _overlap(held)
        self._held = held[cut:]
        return held[:cut]


def _overlap(held: bytes) -> int:
    """How many bytes at the end may be the beginning of the mark."""
    return next((n for n in range(min(len(MARK) - 1, len(held)), 0, -1) if held.endswith(MARK[:n])), 0)
