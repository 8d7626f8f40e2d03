"""What a training reads: sample logs give full rows of the outcome table, segments of live traffic partial ones.

A live row knows the reward of one action, the one that was taken; it counts 1/propensity, so that on average the rows
stand for all traffic whatever the router preferred (Horvitz and Thompson 1952). The weight is clipped at `MAX_WEIGHT`,
which gives a little bias for a bounded variance (Ionides 2008). Knows no learner.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.samples import read_samples, samples_frame, samples_together
from rheostat.data.schema import Action
from rheostat.data.segment_files import read_segments, rows_frame, with_rewards
from rheostat.data.segments import Row
from rheostat.router.ruling import SEQUENTIAL
from rheostat.training.outcomes import Array, OutcomeTable
from rheostat.training.replay import default_actions, label
from rheostat.training.sample_log import SampleLog

if TYPE_CHECKING:
    import polars as pl

MAX_WEIGHT = 20.0
LIVE_DATASET = "live"
SQLITE = b"SQLite format 3"
UNKNOWN = SEVERAL_ACTIONS, UNKNOWN_ACTION = "several actions", "unknown action"  # why a row that was drawn tells of no action here


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A table, and where it came from.

    Attributes:
        table: the log's queries first, in the log's order; actions with a learned stop rule have no weight there yet.
        log: the samples.
        digests: sha256 of every file read, by name; see `digests_of`.
        live: how many live rows were used, and how many were not, by reason.
    """

    table: OutcomeTable
    log: SampleLog
    digests: dict[str, str]
    live: dict[str, int] = field(default_factory=dict)


def load_training_data(
    paths: Sequence[Path], *, actions: Sequence[Action] | None = None, max_weight: float = MAX_WEIGHT, seed: int = 0
) -> TrainingData:
    """Everything in some files as one outcome table.

    Args:
        paths: sample logs and segments (Parquet), and stores (SQLite), in any order.
        actions: what to label; all that the logs allow when None.
        max_weight: where 1/propensity is cut.
        seed: of the replay.

    Raises:
        DatasetError: a file does not fit, or there is no sample log among them.
        StoreError: a store cannot be read.
    """
    import polars as pl

    logs, live = [], []
    for path in paths:
        samples, rows = _read(path)
        logs += [samples] if len(samples) else []
        live += [rows] if len(rows) else []
    if not logs:
        raise DatasetError(f"no samples in {', '.join(map(str, paths)) or 'no files'}: collect a log first, live traffic alone is partial")
    log = SampleLog.of(samples_together(logs, "the logs together"))
    table = label(log, default_actions(log) if actions is None else actions, seed=seed)
    digests = digests_of(paths)
    if not live:
        return TrainingData(table, log, digests)
    partial, counts = live_table(pl.concat(live), table.actions, max_weight=max_weight)
    return TrainingData(table.joined(partial), log, digests, counts)


def live_table(
    frame: pl.DataFrame, actions: Sequence[str], *, max_weight: float = MAX_WEIGHT, of_all: bool = False
) -> tuple[OutcomeTable, dict[str, int]]:
    """Rows of segments as a partial table over `actions`, and how many were used or left out and why.

    A row is used when the request was answered and rewarded, its text was kept, and one action of the table answered it:
    what several actions came to says nothing of the first of them alone. Where answers are checked, all rows are left out,
    not only those that another answer followed: that would keep the questions at which the action did well.

    Args:
        frame: the rows.
        actions: of the table.
        max_weight: where 1/propensity is cut.
        of_all: for a mean over all traffic. Then rows that would be used but for what was drawn, several actions or one of no
            table, stay as rows of weight 0, and requests that failed as answers that are wrong, as large a share of them as
            of answers has a reward: without either the others' propensities are too small.
    """
    import polars as pl

    rows = with_rewards(frame)
    if of_all:
        rows = _with_failures(rows)
    rows = rows.with_columns(_fate(actions, settled=("ok", "failed") if of_all else ("ok",)).alias("fate"))
    counts = {str(fate): int(count) for fate, count in rows["fate"].value_counts().iter_rows()}
    used = rows.filter(pl.col("fate").is_in(["used", *(UNKNOWN if of_all else ())]))
    return _partial(used, tuple(actions), max_weight), counts


def live_rows(paths: Sequence[Path]) -> pl.DataFrame:
    """The live rows of stores and segments, one below the other; samples in them are left out.

    Raises:
        DatasetError: a file does not fit.
        StoreError: a store cannot be read.
    """
    import polars as pl

    return pl.concat([rows_frame([]), *(_read(path)[1] for path in paths)])


def digests_of(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of files, by name; by their path where others have the same name."""
    each = list(dict.fromkeys(paths))
    names = Counter(path.name for path in each)
    return {path.name if names[path.name] == 1 else path.as_posix(): digest_file(path) for path in each}


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The samples and the live rows of a file; which of them a Parquet file holds is told by its columns."""
    import polars as pl

    if path.suffix != ".parquet":
        if path.is_file() and not _begins_with(path, SQLITE):
            raise DatasetError(f"{path} is neither a Parquet log nor a store: rheostat import or rheostat collect makes one of it")
        with OutcomeReader(path) as store:
            return samples_frame(store.samples()), rows_frame(list(_rows(store)))
    try:
        columns = pl.read_parquet_schema(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"cannot read {path}: {str(error).splitlines()[0]}: give a Parquet log, a segment, or a store") from error
    if "decision_id" in columns:
        return samples_frame([]), read_segments(path)
    return read_samples(path), rows_frame([])


def _begins_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _rows(store: OutcomeReader) -> Iterator[Row]:
    seq = 0
    while page := store.rows_after(seq):
        yield from page
        seq = page[-1].seq


def _with_failures(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with a reward of 0 for requests that failed: for as large a share of them as of a tier's answers has a reward.

    Where people rate one answer in ten, all failures beside those would weigh ten times what they do in the traffic.
    """
    import polars as pl

    failed, answered = pl.col("status") == "failed", (pl.col("status") == "ok") & ~pl.col("checked").fill_null(False)
    share = pl.col("reward").is_not_null().filter(answered).mean().fill_null(1.0).over("tier")
    nth = failed.cum_sum().over("tier")
    wrong = failed & ((nth * share).floor() > ((nth - 1) * share).floor())
    return rows.with_columns(reward=pl.when(wrong).then(0.0).when(~failed).then("reward"))


def _fate(actions: Sequence[str], *, settled: Sequence[str]) -> pl.Expr:
    """Whether a row is used, or the first reason why not; `settled` are the outcomes that count."""
    import polars as pl

    return (
        pl.when(pl.col("action").is_null())
        .then(pl.lit("no decision"))
        .when(pl.col("checked"))
        .then(pl.lit("checked"))
        .when(~pl.col("status").is_in(list(settled)))
        .then(pl.lit("not answered"))
        .when(pl.col("reward").is_null())
        .then(pl.lit("no reward"))
        .when(pl.col("prompt_text").is_null())
        .then(pl.lit("text not kept"))
        .when(pl.col("rule") == SEQUENTIAL)
        .then(pl.lit(SEVERAL_ACTIONS))
        .when(~pl.col("action").is_in(list(actions)))
        .then(pl.lit(UNKNOWN_ACTION))
        .otherwise(pl.lit("used"))
    )


def _partial(used: pl.DataFrame, actions: tuple[str, ...], max_weight: float) -> OutcomeTable:
    n, known = len(used), np.flatnonzero((used["fate"] == "used").to_numpy())
    taken = [actions.index(used["action"][int(row)]) for row in known]

    def cells(values: pl.Series) -> Array:
        spread = np.zeros((n, len(actions)))
        spread[known, taken] = values.to_numpy()[known]
        return spread

    generated = used["completion_tokens"] + used["verifier_tokens"] + used["wasted_tokens"]
    return OutcomeTable(
        query_ids=tuple(used["decision_id"]),
        texts=tuple(used["prompt_text"]),
        datasets=(LIVE_DATASET,) * n,
        levels=(0,) * n,
        actions=actions,
        reward=cells(used["reward"]),
        tokens=cells(generated),
        prompt_tokens=cells(used["prompt_tokens"]),
        latency_s=cells(used["latency_s"]),
        weight=cells((1 / used["propensity"]).clip(upper_bound=max_weight)),
    )
