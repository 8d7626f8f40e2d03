"""Reading the outcome store: records by id, finished rows in order, samples, and the segments that ship them.

Any number of processes may read and close segments while one writes; see `store` for the writer.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from rheostat.data import segments
from rheostat.data.errors import StoreError
from rheostat.data.migrations import connect
from rheostat.data.schema import Decision, Outcome, Reward, Sample, id_at
from rheostat.data.segments import Row, Segment, SegmentState

PAGE_ROWS = 2_000

_log = logging.getLogger(__name__)


class SampleKey(NamedTuple):
    """What makes a sample unique."""

    dataset: str
    query_id: str
    model: str
    strategy: str
    temperature: float
    sample_index: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Records in a store. `unfinished` decisions have no outcome: still running, or lost in a crash."""

    decisions: int
    outcomes: int
    rewards: int
    samples: int
    segments: int
    unfinished: int


class OutcomeReader:
    """The outcome store as read by anyone. Threads may share one; it is a context manager.

    Args:
        path: the SQLite file, which must exist.

    Raises:
        StoreError: there is no store, or it is not one this program can read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._connection = connect(self.path, create=False)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; closing twice does no harm."""
        with self._lock:
            self._connection.close()

    def decision(self, decision_id: str) -> Decision | None:
        """The decision of that id."""
        rows = self._query("SELECT body FROM decisions WHERE decision_id = ?", decision_id)
        return msgspec.msgpack.decode(rows[0][0], type=Decision) if rows else None

    def outcome(self, decision_id: str) -> Outcome | None:
        """What came of that decision, once it is finished."""
        rows = self._query("SELECT body FROM events WHERE decision_id = ? AND kind = 'outcome'", decision_id)
        return msgspec.msgpack.decode(rows[0][0], type=Outcome) if rows else None

    def rewards(self, decision_id: str) -> list[Reward]:
        """The rewards that arrived later, one a source, in order of arrival."""
        rows = self._query("SELECT body FROM events WHERE decision_id = ? AND kind = 'reward' ORDER BY seq", decision_id)
        return [msgspec.msgpack.decode(body, type=Reward) for (body,) in rows]

    def rows_after(self, seq: int = 0, limit: int = PAGE_ROWS) -> list[Row]:
        """Up to `limit` rows whose number is larger than `seq`, in order; ask again with the last one's number."""
        with self._guarded() as connection:
            return segments.rows_after(connection, seq, limit)

    def finished_since(self, created_s: float) -> Iterator[tuple[Decision, Outcome]]:
        """All decisions made since then (Unix seconds) that have an outcome, with it; a page at a time, in order of time.

        A damaged one is left out, and named in the log: it must not take the others with it.
        """
        after = id_at("d", created_s)
        while rows := self._query(
            """SELECT d.decision_id, d.body, e.body FROM decisions d JOIN events e ON e.decision_id = d.decision_id
            WHERE d.decision_id > ? AND e.kind = 'outcome' ORDER BY d.decision_id LIMIT ?""",
            after,
            PAGE_ROWS,
        ):
            for name, decision, outcome in rows:
                try:
                    found = msgspec.msgpack.decode(decision, type=Decision), msgspec.msgpack.decode(outcome, type=Outcome)
                except msgspec.DecodeError as error:
                    _log.warning("decision %s cannot be read and is left out: %s", name, error)
                    continue
                yield found
            after = rows[-1][0]

    def counts(self) -> Counts:
        """How many records of each sort there are."""
        (row,) = self._query(
            """SELECT (SELECT count(*) FROM decisions), (SELECT count(*) FROM events WHERE kind = 'outcome'),
            (SELECT count(*) FROM events WHERE kind = 'reward'), (SELECT count(*) FROM samples), (SELECT count(*) FROM segments),
            (SELECT count(*) FROM decisions d WHERE NOT EXISTS
                (SELECT 1 FROM events e WHERE e.decision_id = d.decision_id AND e.kind = 'outcome'))"""
        )
        return Counts(**dict(zip(Counts.__struct_fields__, row, strict=True)))

    def sample_keys(self, *, dataset: str | None = None, model: str | None = None, strategy: str | None = None) -> set[SampleKey]:
        """The keys of the samples there are, of one data set, model or strategy where given."""
        rows = self._query(
            """SELECT dataset, query_id, model, strategy, temperature, sample_index FROM samples
            WHERE dataset = coalesce(?, dataset) AND model = coalesce(?, model) AND strategy = coalesce(?, strategy)""",
            dataset,
            model,
            strategy,
        )
        return {SampleKey(*row) for row in rows}

    def samples(self) -> Iterator[Sample]:
        """All samples in order of arrival, a page at a time, so that writers are never held up."""
        seq = 0
        while rows := self._query("SELECT seq, body FROM samples WHERE seq > ? ORDER BY seq LIMIT ?", seq, PAGE_ROWS):
            yield from (msgspec.msgpack.decode(body, type=Sample) for _, body in rows)
            seq = rows[-1][0]

    def close_segment(self, *, max_rows: int = 100_000, min_rows: int = 1) -> Segment | None:
        """Put the next rows that are in no segment into one; None while there are fewer than `min_rows`.

        Safe to repeat, and in several processes at once: a row is in one segment, and a kill leaves either the whole
        segment or none.
        """
        with self._guarded() as connection:
            return segments.close_segment(connection, max_rows=max_rows, min_rows=min_rows)

    def segments(self, state: SegmentState | None = None) -> list[Segment]:
        """The segments in order, or those of one state."""
        with self._guarded() as connection:
            return segments.list_segments(connection, state)

    def segment_rows(self, segment: Segment) -> list[Row]:
        """The rows of a segment, in order."""
        with self._guarded() as connection:
            return segments.segment_rows(connection, segment)

    def mark_shipped(self, segment_id: str, run_id: str) -> Segment:
        """Note the run a segment went to; the first one stays, should it be marked again.

        Raises:
            StoreError: there is no such segment.
        """
        with self._guarded() as connection:
            return segments.mark_shipped(connection, segment_id, run_id)

    def _query(self, sql: str, *arguments: object) -> list[Any]:
        with self._guarded() as connection:
            return connection.execute(sql, arguments).fetchall()

    def _guarded(self) -> _Guard:
        return _Guard(self._lock, self._connection, self.path)


class _Guard:
    """The connection, for one thread at a time, with SQLite's errors told as the store's."""

    def __init__(self, lock: threading.Lock, connection: sqlite3.Connection, path: Path) -> None:
        self._lock, self._connection, self._path = lock, connection, path

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"cannot use the store {self._path}: {error}: check the disk, or restore the file") from error
