"""The outcome store: every decision, outcome, reward and sample, in one SQLite file with one writer.

A put never waits and never raises; a group is committed every 50 ms or 256 records. A crash loses at most the group that
was not yet committed, a clean close nothing. A full or read-only disk makes the store unhealthy, not the caller.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rheostat.data.errors import StoreError
from rheostat.data.migrations import connect
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.schema import Decision, Outcome, Reward, Sample
from rheostat.data.writer import MAX_QUEUED, GroupWriter, WriterStats

Record = Decision | Outcome | Reward | Sample
Statement = tuple[str, tuple[Any, ...]]

_encode = msgspec.msgpack.Encoder().encode


class OutcomeStore(OutcomeReader):
    """The store of the one process that writes records; it reads as `OutcomeReader` does.

    Records are idempotent: of two with the same key (decision id; decision and source of a reward; key of a sample)
    the first stays.

    Args:
        path: the SQLite file; made when there is none.
        max_queued: records that may wait in memory for the disk; more are dropped and counted.

    Raises:
        StoreError: another process writes this store, or the file is not one this program can use.
    """

    def __init__(self, path: Path | str, *, max_queued: int = MAX_QUEUED) -> None:
        self._owner = _own(Path(path))
        try:
            self._sink = connect(Path(path), create=True)
            super().__init__(path)
        except StoreError:
            os.close(self._owner)
            raise
        self._writer: GroupWriter[Record] = GroupWriter(self._write, max_queued=max_queued)
        self._open = True

    @property
    def healthy(self) -> bool:
        """Whether records reach the disk."""
        return self._writer.healthy

    def put(self, record: Record) -> bool:
        """Queue a record; False where it was dropped, because the queue is full or the store closed."""
        return self._writer.put(record)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until all that was put before is on disk; False when that took longer."""
        return self._writer.flush(timeout_s)

    def stats(self) -> WriterStats:
        """What was written, dropped and rejected since the start, and whether records reach the disk."""
        return self._writer.stats()

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is queued and let go of the file; closing twice does no harm.

        Raises:
            StoreError: the disk did not take everything in that time.
        """
        if not self._open:
            return
        self._open = False
        try:
            self._writer.close(timeout_s)
        finally:
            self._sink.close()
            super().close()
            os.close(self._owner)

    def _write(self, records: Sequence[Record]) -> int:
        """Write a group in one transaction, all or nothing; returns how many records cannot be written at all."""
        statements = [_statement(record) for record in records]
        self._sink.execute("BEGIN IMMEDIATE")
        try:
            accepted = sum(map(self._insert, statements))
            self._sink.execute("COMMIT")
        except sqlite3.Error:
            if self._sink.in_transaction:
                self._sink.execute("ROLLBACK")
            raise
        return len(records) - accepted

    def _insert(self, statement: Statement | None) -> bool:
        """False for what SQLite cannot hold, such as a whole number beyond 64 bits."""
        if statement is None:
            return False
        try:
            self._sink.execute(*statement)
        except (OverflowError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
            return False
        return True


def _own(path: Path) -> int:
    """Hold the store's lock file, which the system lets go of when the process dies, however it dies."""
    real = path.resolve()  # two names of one file are one store
    lock = real.with_name(f"{real.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(f"cannot open the store {path}: {error}: check the folder and its permissions") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreError(f"the store {path} is being written by process {holder}: stop it, or give another path") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _decision(record: Decision) -> tuple[Any, ...]:
    return record.decision_id, float(record.created_s), record.action, _encode(record)


def _outcome(record: Outcome) -> tuple[Any, ...]:
    return "outcome", record.decision_id, "", _encode(record)


def _reward(record: Reward) -> tuple[Any, ...]:
    return "reward", record.decision_id, record.source, _encode(record)


def _sample(record: Sample) -> tuple[Any, ...]:
    key = (record.dataset, record.query_id, record.model, record.strategy, float(record.temperature), record.sample_index)
    return *key, _encode(record)


_EVENT = "INSERT OR IGNORE INTO events (kind, decision_id, source, body) VALUES (?, ?, ?, ?)"
_INSERTS: dict[type[Record], tuple[str, Callable[[Any], tuple[Any, ...]]]] = {
    Decision: ("INSERT OR IGNORE INTO decisions (decision_id, created_s, action, body) VALUES (?, ?, ?, ?)", _decision),
    Outcome: (_EVENT, _outcome),
    Reward: (_EVENT, _reward),
    Sample: (
        """INSERT OR IGNORE INTO samples (dataset, query_id, model, strategy, temperature, sample_index, body)
        VALUES (?, ?, ?, ?, ?, ?, ?)""",
        _sample,
    ),
}


def _statement(record: Record) -> Statement | None:
    """The insert of a record; None for one that has no bytes (a lone surrogate, a foreign type in a free field).

    One such record must not stop the others of its group, now or at every retry.
    """
    try:
        sql, columns = _INSERTS[type(record)]
        return sql, columns(record)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
