"""One thread that writes records in groups: fast to give to, patient with a disk that is full.

Knows nothing of tables: it is given a function that writes one group in one transaction.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from rheostat.data.errors import StoreError

GROUP_S = 0.05
GROUP_RECORDS = 256  # a commit takes as long as writing some tens of records
MAX_GROUP_RECORDS = 4_096  # in one transaction, when more than a group has piled up
MAX_QUEUED = 20_000  # some 50 MB of decisions with their embeddings
MAX_TEXT = 256 * 1024 * 1024  # characters of the texts that they may hold
RETRY_S = 0.25
MAX_RETRY_S = 5.0

T = TypeVar("T")
_log = logging.getLogger(__name__)


class WriterStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the start. `dropped` records found the queue full or closed, `rejected` ones could not be encoded."""

    queued: int
    written: int
    dropped: int
    rejected: int
    commits: int
    failures: int
    healthy: bool
    last_error: str | None


def _none(record: object) -> int:  # noqa: ARG001
    return 0


class _Flush:
    """Stands in the queue; set once everything before it is committed."""

    def __init__(self) -> None:
        self.done = threading.Event()


class GroupWriter(Generic[T]):
    """Hands records to `write` in groups, every 50 ms or 256 records, whichever comes first.

    When `write` raises `sqlite3.Error` the group stays, the writer is unhealthy, and it tries again with growing pauses;
    meanwhile at most `max_queued` records wait, with at most `max_text` characters, and the rest are dropped and counted.

    Args:
        write: writes one group in one transaction, all or nothing; returns how many of its records it had to reject.
        max_queued: records that may wait.
        text_of: how many characters a record's texts have.
        max_text: characters that may wait; one record more may go over.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], int],
        *,
        max_queued: int = MAX_QUEUED,
        text_of: Callable[[T], int] = _none,
        max_text: int = MAX_TEXT,
    ) -> None:
        self._write = write
        self._max_queued = max_queued
        self._text_of = text_of
        self._max_text = max_text
        self._text = 0
        self._queue: deque[T | _Flush] = deque()
        self._gate = threading.Lock()
        self._some = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._give_up_s = float("inf")
        self._waiting = 0
        self._written = self._dropped = self._rejected = self._commits = self._failures = 0
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the last group was written, and the writer is open."""
        return self._error is None and not self._closing.is_set()

    def put(self, record: T) -> bool:
        """Queue a record; False where it was dropped. Neither waits for the disk nor raises."""
        text = self._text_of(record)
        with self._gate:
            if self._waiting >= self._max_queued or self._text >= self._max_text or self._closing.is_set():
                self._dropped += 1
                return False
            self._waiting += 1
            self._text += text
            self._queue.append(record)
        if not self._some.is_set():
            self._some.set()
        if len(self._queue) >= GROUP_RECORDS and not self._hurry.is_set():
            self._hurry.set()
        return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put before is on disk; False when that took too long."""
        marker = _Flush()
        with self._gate:
            if self._closing.is_set():
                return self._waiting == 0
            self._queue.append(marker)
        self._some.set()
        self._hurry.set()
        return marker.done.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Write what is queued and stop.

        Raises:
            StoreError: the disk did not take everything in that time.
        """
        with self._gate:
            self._give_up_s = min(self._give_up_s, time.monotonic() + timeout_s)
            self._closing.set()
        self._some.set()
        self._hurry.set()
        self._thread.join()
        if self._waiting:
            raise StoreError(f"{self._waiting} records could not be written ({self._error}): free some disk before stopping")

    def stats(self) -> WriterStats:
        """The counts of this moment."""
        return WriterStats(
            queued=self._waiting,
            written=self._written,
            dropped=self._dropped,
            rejected=self._rejected,
            commits=self._commits,
            failures=self._failures,
            healthy=self.healthy,
            last_error=self._error,
        )

    def _run(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._hurry.wait(GROUP_S)
            self._some.clear()
            self._hurry.clear()
            # One group a round: the few records that came during a commit wait for others, or every one has a commit.
            if not self._write_group():
                return
            if self._queue:
                self._some.set()
        while self._queue and self._write_group():
            pass

    def _write_group(self) -> bool:
        """Write what is queued, as far as it goes into one group; False when closing and out of time."""
        group = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_GROUP_RECORDS))]
        records = [item for item in group if not isinstance(item, _Flush)]
        if records and not self._persist(records):
            return False
        with self._gate:
            self._waiting -= len(records)
            self._text -= sum(map(self._text_of, records))
        for item in group:
            if isinstance(item, _Flush):
                item.done.set()
        return True

    def _persist(self, records: list[T]) -> bool:
        """Write one group, however often it takes; False when closing and out of time."""
        pause_s = RETRY_S
        while True:
            try:
                rejected = self._write(records)
            except sqlite3.Error as error:
                self._note_failure(error)
            except Exception:  # noqa: BLE001  a group that fails for any other reason always will; the thread must outlive it
                _log.exception("%d records cannot be written and are rejected", len(records))
                self._rejected += len(records)
                return True
            else:
                self._note_success(len(records), rejected)
                return True
            if time.monotonic() + pause_s > self._give_up_s:
                return False
            self._pause(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    def _pause(self, seconds: float) -> None:
        """Wait; a close cuts it short once, so that the last tries begin at once."""
        if self._closing.is_set():
            time.sleep(seconds)
        else:
            self._closing.wait(seconds)

    def _note_failure(self, error: sqlite3.Error) -> None:
        if self._error is None:
            _log.warning("the store cannot be written, records wait in memory: %s", error)
        self._failures += 1
        self._error = str(error)

    def _note_success(self, records: int, rejected: int) -> None:
        if self._error is not None:
            _log.warning("the store is written again")
        self._error = None
        self._commits += 1
        self._written += records - rejected
        self._rejected += rejected
