"""Logs of samples as Parquet: written whole, read in bulk, checked once on the way in.

Reads its own logs and other people's outcome tables: columns it does not know are left out, optional ones filled. Rows
are numbered from 0 in messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec

from rheostat.data.errors import DatasetError
from rheostat.data.parquet import read_parquet, write_parquet
from rheostat.data.schema import AnswerKind, Sample

if TYPE_CHECKING:
    import polars as pl

KEY = ("dataset", "query_id", "model", "strategy", "temperature", "sample_index")
REQUIRED = ("dataset", "query_id", "query_text", "model", "strategy", "sample_index", "answer", "correct", "completion_tokens")
NOT_NULL = ("dataset", "query_id", "query_text", "model", "strategy", "sample_index")
FINITE = ("temperature", "mean_logprob", "latency_s", "cost_usd")

NO_WORD = r"[\s()]+"  # what no model's name holds in the spelling of an action

# The columns of a log, in order, with the polars type of each.
COLUMNS = {
    "dataset": "String",
    "query_id": "String",
    "query_text": "String",
    "model": "String",
    "strategy": "String",
    "sample_index": "Int64",
    "temperature": "Float64",
    "answer": "String",
    "gold": "String",
    "correct": "Float64",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "latency_s": "Float64",
    "kind": "String",
    "level": "Int64",
    "mean_logprob": "Float64",
    "finish_reason": "String",
    "tokens_source": "String",
    "source": "String",
    "cost_usd": "Float64",
}
# What stands in for a missing column or value; a column that is not here stays null where it is unknown.
DEFAULTS: dict[str, str | int] = {
    "gold": "",
    "kind": "text",
    "level": 0,
    "finish_reason": "stop",
    "tokens_source": "logged",
    "source": "rheostat",
}


def read_samples(paths: Path | str | Sequence[Path | str]) -> pl.DataFrame:
    """The rows of one log or several, in order, checked.

    Returns:
        The columns of `COLUMNS`. `answer`, `correct`, the tokens, `latency_s`, `temperature`, `mean_logprob` and
        `cost_usd` may be null, which means unknown; no value is NaN.

    Raises:
        DatasetError: a file cannot be read, is empty, or a row does not fit; names file, row, column and reason.
    """
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not files:
        raise DatasetError("no sample log was given: name at least one Parquet file")
    frames = [check_samples(read_parquet(file), str(file)) for file in files]
    if len(frames) == 1:
        return frames[0]
    return samples_together(frames, f"{len(files)} logs together")


def samples_together(frames: Sequence[pl.DataFrame], where: str) -> pl.DataFrame:
    """Logs one below the other; a row that stands in several, as in a store and its export, counts once.

    Raises:
        DatasetError: two rows are of one sample and differ.
    """
    import polars as pl

    together = pl.concat(frames).unique(maintain_order=True)
    _check_unique(together, where, (*KEY, "source"))
    return together


def write_samples(path: Path | str, frame: pl.DataFrame) -> None:
    """Check and write a log; the file is there whole or not at all.

    Raises:
        DatasetError: a row does not fit; nothing is written.
        OSError: the disk is full or the folder cannot be written.
    """
    write_parquet(Path(path), check_samples(frame, str(path)), {"rheostat.rows": "samples"})


def samples_frame(samples: Iterable[Sample]) -> pl.DataFrame:
    """The columns of `COLUMNS` from records."""
    import polars as pl

    rows = [msgspec.structs.asdict(sample) for sample in samples]
    return pl.DataFrame(rows, schema={name: getattr(pl, dtype) for name, dtype in COLUMNS.items()})


def one_word(model: str) -> str:
    """A model's name as an action can spell it: without spaces and parentheses."""
    return re.sub(NO_WORD, "-", model).strip("-")


def samples_of(frame: pl.DataFrame) -> Iterable[Sample]:
    """The records of a checked log; unknown tokens, seconds and temperature become 0, as a record must have them."""
    import polars as pl

    known = frame.with_columns(pl.col("temperature", "prompt_tokens", "completion_tokens", "latency_s").fill_null(0))
    return (Sample(**row) for row in known.iter_rows(named=True))


def check_samples(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """The frame with exactly the columns of `COLUMNS`, of their types, models in one word, and values that make sense.

    Raises:
        DatasetError: it is empty, a column is missing or of another type, a key comes twice, or a value is out of range.
    """
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise DatasetError(f"{where}: missing columns {', '.join(missing)}: a sample log needs {', '.join(REQUIRED)}")
    if frame.is_empty():
        raise DatasetError(f"{where}: no rows: collect samples first")
    typed = _typed(frame, where)
    _check_values(typed, where)
    _check_unique(typed, where, KEY)
    return typed


def _typed(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    import polars as pl

    columns = []
    for name, type_name in COLUMNS.items():
        column = frame[name] if name in frame.columns else pl.Series(name, [None], dtype=pl.Null).new_from_index(0, len(frame))
        try:
            typed = column.cast(getattr(pl, type_name))
        except pl.exceptions.PolarsError as error:
            raise DatasetError(f"{where}: column {name} is {column.dtype}, which does not fit {type_name}: convert it") from error
        columns.append(typed.fill_null(DEFAULTS[name]) if name in DEFAULTS else typed)
    return pl.DataFrame(columns).with_columns(pl.col("model").str.replace_all(NO_WORD, "-").str.strip_chars("-"))


def _check_values(frame: pl.DataFrame, where: str) -> None:
    import polars as pl

    not_a_share = ~pl.col("correct").is_between(0, 1)  # NaN is not between
    checks = [(name, pl.col(name).is_null(), "must not be null") for name in NOT_NULL]
    checks.append(("correct", not_a_share, "must be in [0, 1], or null where it cannot be graded"))
    checks += [(name, pl.col(name) < 0, "must not be negative") for name in ("sample_index", "prompt_tokens", "completion_tokens")]
    checks += [(name, ~pl.col(name).is_finite(), "must be finite, or null") for name in FINITE]
    checks.append(("kind", ~pl.col("kind").is_in(get_args(AnswerKind)), f"must be one of {', '.join(get_args(AnswerKind))}"))
    found = frame.select(bad.arg_max().alias(str(i)) for i, (_, bad, _) in enumerate(checks)).row(0)
    for (name, bad, reason), row in zip(checks, found, strict=True):
        if row is not None and frame[row].select(bad).item():
            raise DatasetError(f"{where} row {row}: {name} is {frame[name][row]!r}, {reason}: correct or drop the row")


def _check_unique(frame: pl.DataFrame, where: str, key: Sequence[str]) -> None:
    again = frame.select(key).is_duplicated()
    if again.any():
        row = again.arg_max() or 0
        values = ", ".join(f"{name}={frame[name][row]!r}" for name in key)
        raise DatasetError(f"{where} row {row}: the key ({values}) comes more than once: drop the repeats or number the samples")
