"""Segments as Parquet: one row an outcome with its decision, or a reward that arrived later; lossless both ways.

Every field of a record is a column, so that a trainer, a notebook or another tool reads the log without this package;
fields with structure are JSON text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rheostat.data.errors import DatasetError, StoreError
from rheostat.data.ledger import Ledger
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.parquet import read_parquet, write_parquet
from rheostat.data.samples import check_samples, samples_of
from rheostat.data.schema import Decision, Outcome, Reward, Sample
from rheostat.data.segments import Row, Segment
from rheostat.data.store import OutcomeStore, Record

if TYPE_CHECKING:
    import polars as pl

FLUSH_S = 30.0
FLUSH_EVERY = 2_000

ROW = {"seq": "Int64", "kind": "String", "decision_id": "String"}
# column: (field of the record, polars type)
DECISION = {
    "query_id": ("query_id", "String"),
    "created_s": ("created_s", "Float64"),
    "action": ("action", "String"),
    "propensity": ("propensity", "Float64"),
    "tier": ("tier", "String"),
    "target_accuracy": ("target_accuracy", "Float64"),
    "p_correct": ("p_correct", "Float64"),
    "p_interval": ("p_interval", "String"),
    "predicted_cost_usd": ("cost_usd", "Float64"),
    "rule": ("rule", "String"),
    "bundle": ("bundle", "String"),
    "tenant": ("tenant", "String"),
    "explored": ("explored", "Boolean"),
    "feasible": ("feasible", "Boolean"),
    "degraded": ("degraded", "String"),
    "prompt_sha256": ("prompt_sha256", "String"),
    "prompt_text": ("prompt_text", "String"),
    "embedding": ("embedding", "Binary"),
    "alternatives": ("alternatives", "String"),
    "guarantee": ("guarantee", "String"),
    "checked": ("checked", "Boolean"),
}
OUTCOME = {
    "finished_s": ("finished_s", "Float64"),
    "status": ("status", "String"),
    "cost_usd": ("cost_usd", "Float64"),
    "latency_s": ("latency_s", "Float64"),
    "answer": ("answer", "String"),
    "samples": ("samples", "Int64"),
    "agreement": ("agreement", "Float64"),
    "stop_reason": ("stop_reason", "String"),
    "estimated": ("estimated", "Boolean"),
    "reward": ("reward", "Float64"),
    "reward_source": ("reward_source", "String"),
    "verified": ("verified", "Boolean"),
    "attempts": ("attempts", "String"),
    "error": ("error", "String"),
}
LEDGER = {
    "calls": ("calls", "Int64"),
    "prompt_tokens": ("prompt", "Int64"),
    "cached_prompt_tokens": ("cached_prompt", "Int64"),
    "completion_tokens": ("completion", "Int64"),
    "reasoning_tokens": ("reasoning", "Int64"),
    "verifier_tokens": ("verifier", "Int64"),
    "wasted_tokens": ("wasted", "Int64"),
}
# A reward row shares its columns with the outcomes'.
REWARD = {"reward": ("reward", "Float64"), "reward_source": ("source", "String"), "created_s": ("created_s", "Float64")}
JSON_COLUMNS = ("p_interval", "alternatives", "guarantee", "attempts")
ADDED = ("guarantee", "checked", "verified")  # columns that older segments lack: null there

Columns = dict[str, tuple[str, str]]


def export_segment(reader: OutcomeReader, segment: Segment, path: Path | str) -> list[Row]:
    """Write a segment's rows; the same segment gives the same bytes with the same libraries.

    Returns:
        The rows.

    Raises:
        StoreError: the rows in the store are not the segment's, or one of them is damaged.
        OSError: the disk is full or the folder cannot be written.
    """
    import polars as pl

    try:
        rows = reader.segment_rows(segment)
        frame = rows_frame(rows)
    except (msgspec.DecodeError, pl.exceptions.PolarsError, ArithmeticError, TypeError, ValueError) as error:
        raise StoreError(f"segment {segment.segment_id} has a damaged row ({error!r:.200}): restore the store from a copy") from error
    if len(rows) != segment.rows:
        raise StoreError(f"segment {segment.segment_id} has {segment.rows} rows, the store {len(rows)} of them: restore the store")
    metadata = {"rheostat.rows": "outcomes", "rheostat.segment_id": segment.segment_id, "rheostat.sha256": segment.sha256}
    write_parquet(Path(path), frame, metadata)
    return rows


def rows_frame(rows: Sequence[Row]) -> pl.DataFrame:
    """The columns of a segment file from rows of a store."""
    import polars as pl

    schema = {name: getattr(pl, dtype) for name, dtype in _dtypes().items()}
    return pl.DataFrame([_flatten(row) for row in rows], schema=schema)


def read_segments(paths: Path | str | Sequence[Path | str]) -> pl.DataFrame:
    """The rows of segment files, in the order given; see `with_rewards` for one row a decision.

    Raises:
        DatasetError: a file cannot be read, or is no segment.
    """
    import polars as pl

    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not files:
        raise DatasetError("no segment was given: name at least one Parquet file")
    return pl.concat([_segment_frame(read_parquet(file), str(file)) for file in files])


def with_rewards(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a decision, with its reward: the outcome's own, else the first that arrived later, else null."""
    import polars as pl

    finished = frame.filter(pl.col("kind") == "outcome").unique("decision_id", keep="first", maintain_order=True)
    later = frame.filter(pl.col("kind") == "reward").sort("created_s", maintain_order=True)
    later = later.unique("decision_id", keep="first", maintain_order=True).select("decision_id", "reward", "reward_source")
    joined = finished.join(later, on="decision_id", how="left", suffix="_later", maintain_order="left")
    known = pl.col("reward").is_not_null()
    return joined.with_columns(
        reward_source=pl.when(known).then("reward_source").otherwise("reward_source_later"),
        reward=pl.when(known).then("reward").otherwise("reward_later"),
    ).drop("reward_later", "reward_source_later")


def import_parquet(store: OutcomeStore, path: Path | str) -> int:
    """Put the records of a segment file or a sample log into a store; those that are there already stay as they are.

    Returns:
        The number of records in the file.

    Raises:
        DatasetError: the file is neither, or a row does not fit.
        StoreError: the disk does not take them.
    """
    frame = read_parquet(Path(path))
    records = _records(frame, str(path)) if "decision_id" in frame.columns else samples_of(check_samples(frame, str(path)))
    count = 0
    for count, record in enumerate(records, start=1):
        _put(store, record)
        if count % FLUSH_EVERY == 0:
            store.flush(FLUSH_S)
    if not store.flush(FLUSH_S):
        raise StoreError(f"{path}: the store {store.path} did not take the rows within {FLUSH_S:.0f} s: free some disk, import again")
    return count


def _put(store: OutcomeStore, record: Record | Sample) -> None:
    """Put one record, waiting for room: an import has time, and must not drop."""
    if not store.put(record) and not (store.flush(FLUSH_S) and store.put(record)):
        raise StoreError(f"the store {store.path} takes no rows ({store.stats().last_error}): free some disk, import again")


def _dtypes() -> dict[str, str]:
    """Every column of a segment file with its type, in order."""
    return {**ROW, **{name: dtype for columns in (DECISION, OUTCOME, LEDGER) for name, (_, dtype) in columns.items()}}


def _flatten(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {"seq": row.seq, "kind": row.kind, "decision_id": row.decision_id}
    if row.decision is not None:
        flat |= _columns(row.decision, DECISION)
    if row.outcome is not None:
        flat |= _columns(row.outcome, OUTCOME) | _columns(row.outcome.ledger, LEDGER)
    if row.reward is not None:
        flat |= _columns(row.reward, REWARD)
    return flat


def _columns(record: msgspec.Struct, columns: Columns) -> dict[str, Any]:
    return {name: _cell(name, getattr(record, field)) for name, (field, _) in columns.items()}


def _cell(name: str, value: Any) -> Any:
    return msgspec.json.encode(value).decode() if name in JSON_COLUMNS and value is not None else value


def _segment_frame(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """The frame with exactly the columns of a segment, of their types."""
    import polars as pl

    frame = frame.with_columns(pl.lit(None).alias(name) for name in ADDED if name not in frame.columns)
    missing = [name for name in _dtypes() if name not in frame.columns]
    if missing:
        raise DatasetError(f"{where}: missing columns {', '.join(missing)}: this is no segment of outcomes")
    try:
        typed = frame.select(pl.col(name).cast(getattr(pl, dtype)) for name, dtype in _dtypes().items())
    except pl.exceptions.PolarsError as error:
        raise DatasetError(f"{where}: a column has another type ({error}): export the segment again") from error
    return checked_rows(typed, where)


def checked_rows(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """The same rows, once every propensity and reward is a probability and no decision has two accounts.

    The same row may come twice, as segments that were shipped again do. Rows are numbered from 0 in messages.

    Raises:
        DatasetError: names the row, the column and the reason.
    """
    import polars as pl

    decided = (pl.col("kind") == "outcome") & pl.col("action").is_not_null()
    likely = ((pl.col("propensity") > 0) & (pl.col("propensity") <= 1)).fill_null(False)
    checks = {
        "propensity": (decided & ~likely, "must be in (0, 1]"),
        "reward": (~pl.col("reward").is_between(0, 1), "must be in [0, 1], or null where it is not known"),
    }
    for name, (bad, reason) in checks.items():
        rows = frame.with_row_index("row").filter(bad)
        if len(rows):
            raise DatasetError(f"{where} row {rows['row'][0]}: {name} is {rows[name][0]!r}, {reason}: correct or drop the row")
    accounts = frame.filter(decided).unique(["decision_id", "action", "propensity", "status", "reward"])
    twice = accounts.filter(pl.col("decision_id").is_duplicated())
    if len(twice):
        name = twice["decision_id"][0]
        row = frame.with_row_index("row").filter(decided & (pl.col("decision_id") == name))["row"][-1]
        raise DatasetError(f"{where} row {row}: decision_id {name!r} comes twice, and the rows disagree: keep the true one")
    return frame


def _records(frame: pl.DataFrame, where: str) -> Iterator[Record]:
    for i, cells in enumerate(_segment_frame(frame, where).iter_rows(named=True)):
        try:
            yield from _unflatten(cells)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise DatasetError(f"{where} row {i}: {error}: export the segment again") from error


def _unflatten(cells: dict[str, Any]) -> Iterator[Record]:
    """The records of one row; a decision comes before its outcome, as it did when they were written."""
    key = {"decision_id": cells["decision_id"]}
    if cells["kind"] == "reward":
        yield msgspec.convert(key | _fields(cells, REWARD), Reward)
        return
    if cells["action"] is not None:
        yield msgspec.convert(key | _fields(cells, DECISION), Decision)
    ledger = msgspec.convert(_fields(cells, LEDGER), Ledger)
    yield msgspec.convert(key | _fields(cells, OUTCOME) | {"ledger": ledger}, Outcome)


def _fields(cells: dict[str, Any], columns: Columns) -> dict[str, Any]:
    return {field: _value(name, cells[name]) for name, (field, _) in columns.items()}


def _value(name: str, cell: Any) -> Any:
    return msgspec.json.decode(cell) if name in JSON_COLUMNS and cell is not None else cell
