"""Server-sent events, from bytes to events, whatever way the bytes are cut. Knows nothing of what is in them.

Works on bytes: a character or a line split between two reads is put together before anything is decoded.
Format: the WHATWG HTML standard, section 9.2 (server-sent events).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rheostat.data.errors import UpstreamError

MAX_LINE_BYTES = 10 * 1024 * 1024

_DATA, _END = b"data: ", b"\n\n"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """One event: its data, lines joined by a newline, and its name, `message` where none was given."""

    data: bytes
    name: str = "message"


class SseParser:
    """Feeds on chunks of bytes and gives the events they complete.

    `source` names the sender in errors.
    """

    def __init__(self, source: str, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._source = source
        self._max_line_bytes = max_line_bytes
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._after_cr = False
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = "message"

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes, in order.

        Raises:
            UpstreamError: a line, or the data of one event, is longer than the limit.
        """
        plain = self.plain(chunk)
        if plain is not None:
            return [Event(data) for data in plain]
        return [event for line in self._lines(chunk) if (event := self._line(line)) is not None]

    def plain(self, chunk: bytes) -> list[bytes] | None:
        """The data of the events in `chunk`, where it is whole events of one data line each, as engines send them.

        None where it has to be fed; what was given here is not to be fed any more.
        """
        if self._is_fresh and _is_plain(chunk, self._max_line_bytes):
            return chunk[len(_DATA) : -len(_END)].split(_END + _DATA)
        return None

    @property
    def _is_fresh(self) -> bool:
        """Whether the last event ended with the last chunk."""
        return not (self._partial_bytes or self._data or self._after_cr) and self._name == "message"

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes. Only the chunk is searched, so a long line costs no more than its length."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        first, *rest = _LINE_END.split(chunk)
        self._keep(first)
        if not rest:
            return []
        whole = b"".join(self._partial)
        self._partial, self._partial_bytes = [], 0
        self._keep(rest.pop())
        return [whole, *rest]

    def _keep(self, part: bytes) -> None:
        self._partial.append(part)
        self._partial_bytes += len(part)
        self._check(self._partial_bytes)

    def _line(self, line: bytes) -> Event | None:
        """Take one line in; the empty one ends an event."""
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_bytes += len(value)
            self._check(self._data_bytes)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._name
        self._data, self._data_bytes, self._name = [], 0, "message"
        return Event(b"\n".join(data), name) if data else None

    def _check(self, n_bytes: int) -> None:
        if n_bytes > self._max_line_bytes:
            raise UpstreamError(f"{self._source} sent a line of more than {self._max_line_bytes} bytes", backend=self._source)


def _is_plain(chunk: bytes, max_bytes: int) -> bool:
    """Whether a chunk is whole events of one data line each, and nothing else."""
    if len(chunk) > max_bytes or b"\r" in chunk or not (chunk.startswith(_DATA) and chunk.endswith(_END)):
        return False
    return chunk.count(b"\n") == 2 * (1 + chunk.count(_END + _DATA))
