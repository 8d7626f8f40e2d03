"""The request log: one JSON object a line, one line a request. Lines are gathered and written by a thread.

The standard logging costs some 20 us a line and writes on the caller's time, so requests do not go through it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

FLUSH_S = 0.2
MAX_LINES = 50_000  # that wait while a disk is slow; some 20 MB
STANDARD_OUTPUT = "-"

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class Log(Protocol):
    """Where lines go."""

    def write(self, line: dict[str, Any]) -> None:
        """Take a line; never waits and never raises."""
        ...

    async def run(self) -> None:
        """Write lines out until cancelled."""
        ...

    async def flush(self) -> None:
        """Write out what was taken so far."""
        ...


class NoLog:
    """Keeps nothing."""

    def write(self, line: dict[str, Any]) -> None:
        """Drop the line: that is what was asked for."""

    async def run(self) -> None:
        """Nothing to write."""

    async def flush(self) -> None:
        """Nothing to write."""


class RequestLog:
    """Appends to a file, opened anew for every group of lines, so that it may be moved away by whoever rotates it.

    Args:
        target: the file, or `-` for standard output.
        on_drop: told how many lines were dropped, because too many waited or the disk refused them.
    """

    def __init__(self, target: str, *, on_drop: Callable[[int], None]) -> None:
        self._target = target
        self._on_drop = on_drop
        self._lines: list[bytes] = []
        self._trouble = ""

    def write(self, line: dict[str, Any]) -> None:
        """Take a line; see `Log`."""
        if len(self._lines) >= MAX_LINES:
            self._on_drop(1)
            return
        self._lines.append(_encode(line))

    async def run(self) -> None:
        """Write a group of lines every fifth of a second."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write out what was taken so far; lines a disk refuses are counted, not kept, and the reason is told once."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        # What a full disk took of a line is ended, so that it spoils no other.
        start = [b""] if self._trouble else []
        try:
            await asyncio.to_thread(self._append, b"\n".join([*start, *lines, b""]))
        except (OSError, ValueError) as error:
            self._on_drop(len(lines))
            self._tell(str(error))
        else:
            self._tell("")

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                _log.warning("lines of the request log are lost: %s", trouble)
            else:
                _log.info("the request log is written again")

    def _append(self, data: bytes) -> None:
        if self._target == STANDARD_OUTPUT:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        with Path(self._target).open("ab") as file:
            file.write(data)


def open_log(target: str, *, on_drop: Callable[[int], None]) -> Log:
    """The log that the configuration names; an empty name is none."""
    return RequestLog(target, on_drop=on_drop) if target else NoLog()
