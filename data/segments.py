"""Segments: ranges of finished rows that are shipped once each.

A segment is closed by one insert and shipped by one update, so a kill between any two steps repeats nothing and loses
nothing. Its hash covers the records themselves, not a file, so it is the same whatever writes the file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from rheostat.data.errors import StoreError
from rheostat.data.schema import Decision, Outcome, Reward

RowKind = Literal["outcome", "reward"]
SegmentState = Literal["closed", "shipped"]
HASH_PAGE = 1_000

_ROWS = """SELECT e.seq, e.kind, e.decision_id, d.body, e.body
FROM events e LEFT JOIN decisions d ON d.decision_id = e.decision_id AND e.kind = 'outcome'
WHERE e.seq > ? AND e.seq <= ? ORDER BY e.seq LIMIT ?"""
_SEGMENT = "SELECT segment_id, first_seq, last_seq, rows, sha256, state, run_id FROM segments"
_NO_LIMIT = 2**62


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One finished row: a decision with its outcome, or a reward that arrived later, numbered in order of commits."""

    seq: int
    kind: RowKind
    decision_id: str
    decision: Decision | None = None
    outcome: Outcome | None = None
    reward: Reward | None = None


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """The rows `first_seq` to `last_seq`; `sha256` covers their records."""

    segment_id: str
    first_seq: int
    last_seq: int
    rows: int
    sha256: str
    state: SegmentState
    run_id: str | None = None


def rows_after(connection: sqlite3.Connection, seq: int, limit: int) -> list[Row]:
    """Up to `limit` rows with a larger number, in order."""
    return [_row(*raw) for raw in connection.execute(_ROWS, (seq, _NO_LIMIT, limit))]


def segment_rows(connection: sqlite3.Connection, segment: Segment) -> list[Row]:
    """The rows of a segment, in order."""
    return [_row(*raw) for raw in connection.execute(_ROWS, (segment.first_seq - 1, segment.last_seq, _NO_LIMIT))]


def list_segments(connection: sqlite3.Connection, state: SegmentState | None) -> list[Segment]:
    """The segments in order, or those of one state."""
    rows = connection.execute(f"{_SEGMENT} WHERE state = coalesce(?, state) ORDER BY first_seq", (state,))
    return [_segment(row) for row in rows]


def close_segment(connection: sqlite3.Connection, *, max_rows: int, min_rows: int) -> Segment | None:
    """Close the next segment; None while fewer than `min_rows` rows wait.

    Rows never change and are read outside the write transaction, so the writer waits for one insert only.
    """
    while True:
        start = connection.execute("SELECT coalesce(max(last_seq), 0) FROM segments").fetchone()[0]
        segment = _next_segment(connection, start, max_rows)
        if segment is None or segment.rows < min_rows:
            return None
        if _insert(connection, segment):
            return segment


def mark_shipped(connection: sqlite3.Connection, segment_id: str, run_id: str) -> Segment:
    """Note the run a closed segment went to.

    Raises:
        StoreError: there is no such segment.
    """
    connection.execute("UPDATE segments SET state = 'shipped', run_id = ? WHERE segment_id = ? AND state = 'closed'", (run_id, segment_id))
    row = connection.execute(f"{_SEGMENT} WHERE segment_id = ?", (segment_id,)).fetchone()
    if row is None:
        raise StoreError(f"there is no segment {segment_id!r}: close it first")
    return _segment(row)


def _next_segment(connection: sqlite3.Connection, start: int, max_rows: int) -> Segment | None:
    digest, seqs = hashlib.sha256(), []
    for seq, *record in _raw_rows(connection, start, max_rows):
        seqs.append(seq)
        digest.update(msgspec.msgpack.encode(record))
    if not seqs:
        return None
    sha256 = digest.hexdigest()
    return Segment(segment_id=f"seg-{sha256[:20]}", first_seq=seqs[0], last_seq=seqs[-1], rows=len(seqs), sha256=sha256, state="closed")


def _raw_rows(connection: sqlite3.Connection, start: int, max_rows: int) -> Iterator[tuple[Any, ...]]:
    """(seq, kind, decision id, decision body, event body), paged so that no read transaction grows long."""
    while max_rows > 0:
        page = connection.execute(_ROWS, (start, _NO_LIMIT, min(max_rows, HASH_PAGE))).fetchall()
        if not page:
            return
        yield from page
        start, max_rows = page[-1][0], max_rows - len(page)


def _insert(connection: sqlite3.Connection, segment: Segment) -> bool:
    """False where another process closed a segment over these rows first."""
    inserted = connection.execute(
        """INSERT INTO segments SELECT ?, ?, ?, ?, ?, ?, NULL
        WHERE NOT EXISTS (SELECT 1 FROM segments WHERE last_seq >= ?)""",
        (*msgspec.structs.astuple(segment)[:6], segment.first_seq),
    )
    return inserted.rowcount == 1


def _segment(row: tuple[Any, ...]) -> Segment:
    return Segment(**dict(zip(Segment.__struct_fields__, row, strict=True)))


def _row(seq: int, kind: RowKind, decision_id: str, decision: bytes | None, event: bytes) -> Row:
    if kind == "reward":
        return Row(seq=seq, kind=kind, decision_id=decision_id, reward=msgspec.msgpack.decode(event, type=Reward))
    return Row(
        seq=seq,
        kind=kind,
        decision_id=decision_id,
        decision=None if decision is None else msgspec.msgpack.decode(decision, type=Decision),
        outcome=msgspec.msgpack.decode(event, type=Outcome),
    )
