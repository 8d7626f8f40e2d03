"""What a sweep shows: each action with intervals, and what each axis is worth. Knows rows and ladders, no engine."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Ledger
from rheostat.data.parquet import read_parquet, write_parquet
from rheostat.data.schema import Action
from rheostat.router.base import Array
from rheostat.training.axes import AXES, Ladder
from rheostat.training.bootstrap import Bootstrap, Interval
from rheostat.training.scaling import Growth, growth
from rheostat.training.sweep import Row

if TYPE_CHECKING:
    import polars as pl

Z = 1.959964  # 97.5% quantile of the normal distribution


class ActionReport(msgspec.Struct, frozen=True, kw_only=True):
    """One action over `n` queries, a query's means with 95% intervals; `by_dataset` is accuracy and queries of each."""

    action: str
    n: int
    accuracy: Interval
    tokens: Interval
    seconds: Interval
    calls: Interval
    prompt_tokens: float
    verifier_tokens: float
    by_dataset: dict[str, tuple[float, int]]


class AxisPoint(msgspec.Struct, frozen=True, kw_only=True):
    """An action at one size of an axis, over the queries that all sizes were run on."""

    size: int
    action: str
    accuracy: Interval
    tokens: float


class AxisReport(msgspec.Struct, frozen=True, kw_only=True):
    """One axis on one model."""

    axis: str
    unit: str
    model: str
    n: int
    points: tuple[AxisPoint, ...]
    growth: Growth


class SweepReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole."""

    actions: tuple[ActionReport, ...]
    axes: tuple[AxisReport, ...]


def report(rows: Sequence[Row], ladders: Iterable[Ladder], *, seed: int = 0) -> SweepReport:
    """Sum up a sweep.

    Args:
        rows: what was run.
        ladders: the axes to look along; one with fewer than two sizes run on the same queries is left out.
        seed: of the resamples of queries.
    """
    by_action: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_action[row.action].append(row)
    axes = [_axis(ladder, by_action, seed) for ladder in ladders]
    actions = tuple(_action(name, mine, seed) for name, mine in by_action.items())
    return SweepReport(actions=actions, axes=tuple(axis for axis in axes if axis is not None))


def wilson(successes: float, n: int) -> Interval:
    """A share with Wilson's 95% interval, which is no point at 0 and 1; too wide rather than too narrow for partial rewards.

    Source: Wilson, 1927.
    """
    p, spread = successes / n, Z * Z / n
    middle = (p + spread / 2) / (1 + spread)
    half = Z * math.sqrt(p * (1 - p) / n + spread / (4 * n)) / (1 + spread)
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half))


def export(rows: Sequence[Row], path: Path) -> int:
    """Write the rows as Parquet: a log that `rheostat backtest` reads, with columns of its own behind. Returns their number."""
    write_parquet(path, frame_of(rows), {"rheostat.rows": "sweep"})
    return len(rows)


def frame_of(rows: Sequence[Row]) -> pl.DataFrame:
    """The rows as a frame, one run a row, in the columns of a log and some of its own."""
    import polars as pl

    return pl.DataFrame([_flat(row) for row in rows], infer_schema_length=None)


def read_rows(path: Path) -> list[Row]:
    """The rows that `export` wrote.

    Raises:
        DatasetError: the file cannot be read, or holds something else.
    """
    frame = read_parquet(path)
    if missing := [name for name in ("verifier_tokens", "calls", "cost_usd") if name not in frame.columns]:
        raise DatasetError(f"{path} has no column {missing[0]!r}: give a file that rheostat sweep --export wrote")
    return [_row(each) for each in frame.iter_rows(named=True)]


def _row(each: Mapping[str, Any]) -> Row:
    apart = {"verifier": each["verifier_tokens"], "wasted": each["wasted_tokens"]}
    completion = each["completion_tokens"] - sum(apart.values())
    return Row(
        **{name: each[name] for name in ("dataset", "query_id", "query_text", "level", "correct", "answer", "cost_usd", "latency_s")},
        action=f"{each['model']}/{each['strategy']}",
        ledger=Ledger(calls=each["calls"], prompt=each["prompt_tokens"], completion=completion, **apart),
        stop_reason=each["stop_reason"],
        estimated=each["tokens_source"] == "estimated",
    )


def _flat(row: Row) -> dict[str, object]:
    action, ledger = Action.parse(row.action), row.ledger
    return {
        "dataset": row.dataset,
        "query_id": row.query_id,
        "query_text": row.query_text,
        "level": row.level,
        "model": action.model,
        "strategy": row.action.removeprefix(f"{action.model}/"),
        "sample_index": 0,
        "answer": row.answer,
        "correct": row.correct,
        "prompt_tokens": ledger.prompt,
        "completion_tokens": ledger.generated,
        "latency_s": row.latency_s,
        "cost_usd": row.cost_usd,
        "tokens_source": "estimated" if row.estimated else "logged",
        "verifier_tokens": ledger.verifier,
        "wasted_tokens": ledger.wasted,
        "calls": ledger.calls,
        "stop_reason": row.stop_reason,
    }


def _action(name: str, rows: Sequence[Row], seed: int) -> ActionReport:
    boot = Bootstrap(len(rows), seed=seed)
    correct = _column(row.correct for row in rows)
    return ActionReport(
        action=name,
        n=len(rows),
        accuracy=wilson(float(correct.sum()), len(rows)),
        tokens=boot.interval(_column(row.ledger.generated for row in rows)),
        seconds=boot.interval(_column(row.latency_s for row in rows)),
        calls=boot.interval(_column(row.ledger.calls for row in rows)),
        prompt_tokens=float(_column(row.ledger.prompt for row in rows).mean()),
        verifier_tokens=float(_column(row.ledger.verifier for row in rows).mean()),
        by_dataset=_by_dataset(rows),
    )


def _by_dataset(rows: Sequence[Row]) -> dict[str, tuple[float, int]]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        found[row.dataset].append(row.correct)
    return {name: (sum(correct) / len(correct), len(correct)) for name, correct in sorted(found.items())}


def _axis(ladder: Ladder, by_action: Mapping[str, Sequence[Row]], seed: int) -> AxisReport | None:
    rungs = [rung for rung in ladder.rungs if str(rung.action) in by_action]
    tables = [{(row.dataset, row.query_id): row for row in by_action[str(rung.action)]} for rung in rungs]
    if len(rungs) < 2:
        return None
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    if not shared:
        return None
    correct = np.array([[table[key].correct for table in tables] for key in shared])
    tokens = np.array([[table[key].ledger.generated for table in tables] for key in shared]).mean(axis=0)
    points = [
        AxisPoint(size=rung.size, action=str(rung.action), accuracy=wilson(float(right), len(shared)), tokens=float(spent))
        for rung, right, spent in zip(rungs, correct.sum(axis=0), tokens, strict=True)
    ]
    sizes = np.array([rung.size for rung in rungs], dtype=float)
    worth = growth(sizes, correct, seed=seed)
    unit = AXES[ladder.axis].what
    return AxisReport(axis=ladder.axis, unit=unit, model=ladder.model, n=len(shared), points=tuple(points), growth=worth)


def _column(values: Iterable[float]) -> Array:
    return np.array(list(values), dtype=float)
