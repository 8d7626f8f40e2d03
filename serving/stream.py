"""Bytes of a stream on their way through: forwarded as they are but for usage, with one thing put in before the end mark.

Every chunk of an engine says what it took so far, since that was asked of it: a call that breaks is booked by it. A client
that adds up the usage of chunks, as it may, is told once, at the end.
"""

from __future__ import annotations

import re
from typing import Protocol

MARK = b"\ndata: [DONE]"
_USAGE = b'"usage"'
# Quotes inside a JSON text are escaped, so neither can be part of an answer.
_OF_A_CHUNK = re.compile(rb',\s*"usage"\s*:\s*(?:null|\{(?:[^{}]|\{[^{}]*\})*\})')
_TOTAL = re.compile(rb'data: [^\n]*"choices"\s*:\s*\[\s*\][^\n]*\n\n?')


class Sink(Protocol):
    """Where a stream is written; nothing is sent before the first write."""

    @property
    def started(self) -> bool:
        """Whether the client was sent anything."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting for a slow reader."""
        ...


def without_usage(lines: bytes) -> bytes:
    """Whole lines of a stream without what each chunk took, and without the chunk that only says so."""
    return _OF_A_CHUNK.sub(b"", _TOTAL.sub(b"", lines)) if _USAGE in lines else lines


class Passage:
    """Holds the end mark of a stream back, so that something can be put before it, and a line until it is whole.

    A newline inside a JSON text is escaped, so the mark at the start of a line cannot be part of an answer. A line that
    never becomes whole is never sent: an error event after it would be read as its end.
    """

    def __init__(self) -> None:
        self.done = False
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that can be sent on now."""
        if self.done:
            return b""
        held = self._held + chunk
        # What is held begins a line, so the mark may be its very beginning.
        at = 0 if held.startswith(MARK[1:]) else held.find(MARK) + 1
        self.done = at > 0 or held.startswith(MARK[1:])
        cut = at if self.done else held.rfind(b"\n") + 1
        self._held = held[cut:]
        return held[:cut]
