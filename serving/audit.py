"""The audit log: what was done to a sidecar, when, and by whom. One JSON object a line, written before the answer."""

from __future__ import annotations

import logging
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import msgspec

SHOWN = 200
log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One action. `by` is an address, a file or the process itself; never a key."""

    time_s: float
    action: str
    by: str
    details: dict[str, Any] = {}


class Audited(Protocol):
    """Where actions are noted."""

    def write(self, action: str, *, by: str, **details: Any) -> None:
        """Note an action."""
        ...

    def last(self) -> list[Entry]:
        """The last entries, newest first."""
        ...


class Audit:
    """Appends to a file and keeps the last entries in memory.

    Args:
        path: the file; it and its folder are made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: deque[Entry] = deque(maxlen=SHOWN)

    def write(self, action: str, *, by: str, **details: Any) -> None:
        """Note an action. A disk that does not take it is logged: an admin must still be able to act."""
        entry = Entry(time_s=time.time(), action=action, by=by, details=details)
        self._last.append(entry)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(entry) + b"\n")
        except OSError as error:
            log.error("cannot write the audit log %s: %s: %s", self._path, error, msgspec.json.encode(entry).decode())

    def last(self) -> list[Entry]:
        """The last entries of this process, newest first."""
        return list(reversed(self._last))


class NoAudit:
    """Keeps nothing, where there is no admin."""

    def write(self, action: str, *, by: str, **details: Any) -> None:
        """Drop it."""

    def last(self) -> list[Entry]:
        """Nothing."""
        return []
