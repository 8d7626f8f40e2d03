"""The outcome store: every decision, outcome, reward and sample, in one SQLite file with one writer.

A put never waits and never raises; a group is committed every 50 ms or 256 records. A crash loses at most the group that
was not yet committed, a clean close nothing. A full or read-only disk makes the store unhealthy, not the caller.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from rheostat.data.errors import StoreError
from rheostat.data.migrations import connect
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.schema import Decision, Outcome, Reward, Sample
from rheostat.data.writer import MAX_QUEUED, GroupWriter, WriterStats

Record = Decision | Outcome | Reward | Sample
Row = tuple[Any, ...]
MOST_ROWS = 64  # in one statement

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
        self._writer: GroupWriter[Record] = GroupWriter(self._write, max_queued=max_queued, text_of=_text_of)
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
        rows = _by_table(records)
        self._sink.execute("BEGIN IMMEDIATE")
        try:
            accepted = sum(self._insert(table, piece) for table, its_rows in rows.items() for piece in _pieces(its_rows))
            self._sink.execute("COMMIT")
        except BaseException:
            if self._sink.in_transaction:
                self._sink.execute("ROLLBACK")
            raise
        return len(records) - accepted

    def _insert(self, table: str, rows: list[Row]) -> int:
        """How many rows were taken: all, but for what SQLite cannot hold, such as a whole number beyond 64 bits."""
        try:
            # One statement for all: behind each, this thread would wait for its turn beside the one that serves requests.
            self._sink.execute(f"{table} VALUES {', '.join([_places(rows[0])] * len(rows))}", [*chain.from_iterable(rows)])
        except (OverflowError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
            return 0 if len(rows) == 1 else sum(self._insert(table, [row]) for row in rows)
        return len(rows)


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


def _text_of(record: Record) -> int:
    """Characters of what came from outside: a prompt may have megabytes, and so many records must not wait."""
    text = record.prompt_text if isinstance(record, Decision) else record.answer if isinstance(record, Outcome) else None
    return len(text) if text else 0


def _decision(record: Decision) -> Row:
    return record.decision_id, float(record.created_s), record.action, _encode(record)


def _outcome(record: Outcome) -> Row:
    return "outcome", record.decision_id, "", _encode(record)


def _reward(record: Reward) -> Row:
    return "reward", record.decision_id, record.source, _encode(record)


def _sample(record: Sample) -> Row:
    key = (record.dataset, record.query_id, record.model, record.strategy, float(record.temperature), record.sample_index)
    return *key, _encode(record)


_EVENTS = "INSERT OR IGNORE INTO events (kind, decision_id, source, body)"
_TABLES: dict[type[Record], tuple[str, Callable[[Any], Row]]] = {
    Decision: ("INSERT OR IGNORE INTO decisions (decision_id, created_s, action, body)", _decision),
    Outcome: (_EVENTS, _outcome),
    Reward: (_EVENTS, _reward),
    Sample: (
        "INSERT OR IGNORE INTO samples (dataset, query_id, model, strategy, temperature, sample_index, body)",
        _sample,
    ),
}


def _by_table(records: Sequence[Record]) -> dict[str, list[Row]]:
    """The rows for each table, in the order of their records, without those of records that have no bytes.

    Those hold a lone surrogate, or a foreign type in a free field. One such record must not stop the others of its group,
    now or at every retry.
    """
    rows: dict[str, list[Row]] = {}
    for record in records:
        try:
            table, columns = _TABLES[type(record)]
            row = columns(record)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        rows.setdefault(table, []).append(row)
    return rows


def _pieces(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows by powers of two, so that a few statements do for groups of any size."""
    at = 0
    while at < len(rows):
        size = min(MOST_ROWS, 1 << ((len(rows) - at).bit_length() - 1))
        yield rows[at : at + size]
        at += size


def _places(row: Row) -> str:
    return f"({', '.join('?' * len(row))})"
