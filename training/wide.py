"""Outcome logs as one table of arms: every model x strategy in a file is an action, every question a query.

For logs of any strategy, replayable or not: an arm's label is the mean of its samples, nothing is recombined. Arms that
most queries never saw are left out, and so are queries that then lack an arm, because judging needs every outcome.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.data.schema import Action
from rheostat.training.outcomes import Array, OutcomeTable

if TYPE_CHECKING:
    import polars as pl

MIN_COVERAGE = 0.9
ARM = ("model", "strategy")


def wide_table(frame: pl.DataFrame, *, models: Sequence[str] = (), strategies: Sequence[str] = ()) -> OutcomeTable:
    """The complete table of the arms of a log.

    Args:
        frame: rows as `read_samples` gives them; an ungraded sample counts as wrong.
        models: the ones to keep, all when empty.
        strategies: likewise.

    Raises:
        DatasetError: a model or strategy is not in the log, or fewer than two arms cover the queries.
    """
    import polars as pl

    frame = _kept(_kept(frame, "model", models), "strategy", strategies)
    cells = frame.group_by("dataset", "query_id", *ARM, maintain_order=True).agg(
        pl.col("query_text").first(),
        pl.col("correct").fill_null(0.0).mean(),
        pl.col("completion_tokens", "prompt_tokens").fill_null(0).mean(),
        pl.col("latency_s").fill_null(0.0).mean(),
        pl.col("level").first(),
    )
    n_queries = cells.select("dataset", "query_id").n_unique()
    arms = cells.group_by(ARM).len().filter(pl.col("len") >= MIN_COVERAGE * n_queries).sort(ARM)
    if len(arms) < 2:
        raise DatasetError(
            f"{len(arms)} arms cover {MIN_COVERAGE:.0%} of the {n_queries} queries: a choice needs two; name fewer data sets or strategies"
        )
    known = cells.join(arms.select(ARM), on=ARM)
    complete = known.filter(pl.len().over("dataset", "query_id") == len(arms)).sort("dataset", "query_id", *ARM)
    return _table(complete, arms)


def read_prices(path: Path, table: str = "") -> dict[str, Price]:
    """Prices by model from JSON: model -> USD per million generated tokens, or -> the fields of `Price`.

    Args:
        path: the file; its models may also lie one level down, under the name of a table.
        table: that name.

    Raises:
        DatasetError: the file cannot be read or holds no prices.
    """
    try:
        content = json.loads(path.read_bytes())
        content = content.get(table, content)
        prices = {model: price for model, value in content.items() if (price := _price(value)) is not None}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f'cannot read prices from {path} ({error}): give JSON such as {{"model": 2.5}}') from error
    if not prices:
        raise DatasetError(f'{path} holds no prices for {table or "a model"}: give JSON such as {{"model": 2.5}}')
    return prices


def _price(value: object) -> Price | None:
    if isinstance(value, int | float):
        return Price(usd_per_1m_output=float(value))
    if isinstance(value, Mapping) and "usd_per_1m_output" in value:
        return Price(**{str(name): float(number) for name, number in value.items()})
    return None


def _kept(frame: pl.DataFrame, column: str, wanted: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    known = frame[column].unique().to_list()
    missing = [name for name in wanted if name not in known]
    if missing:
        raise DatasetError(f"no {column} {missing[0]!r} in the log: it has {', '.join(sorted(known))}")
    return frame.filter(pl.col(column).is_in(list(wanted))) if wanted else frame


def _table(complete: pl.DataFrame, arms: pl.DataFrame) -> OutcomeTable:
    """The table of rows sorted by query and arm, every query with every arm."""
    if complete.is_empty():
        raise DatasetError("no query has an outcome of every arm: name fewer models or strategies")
    a = len(arms)
    heads = complete[::a]

    def grid(column: str) -> Array:
        return np.ascontiguousarray(complete[column].to_numpy().astype(np.float64).reshape(-1, a))

    tokens = grid("completion_tokens")
    caps = np.maximum(np.ceil(tokens.max(axis=0)), 1).astype(int)
    names = arms.select(ARM).rows()
    return OutcomeTable(
        query_ids=tuple(heads["query_id"]),
        texts=tuple(heads["query_text"]),
        datasets=tuple(heads["dataset"]),
        levels=tuple(heads["level"]),
        actions=tuple(str(Action(model, _slug(strategy), int(cap))) for (model, strategy), cap in zip(names, caps, strict=True)),
        reward=grid("correct"),
        tokens=tokens,
        prompt_tokens=grid("prompt_tokens"),
        latency_s=grid("latency_s"),
        weight=np.ones_like(tokens),
    )


def _slug(strategy: str) -> str:
    """A strategy's name as an action may spell it."""
    plain = re.sub(r"[^a-z0-9]+", "_", strategy.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"s_{plain}"
