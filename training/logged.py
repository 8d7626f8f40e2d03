"""Logs of outcomes that others recorded: one answer per query, model and strategy, as a table and its answers.

A log with several samples of a cell is replayed instead, and then has no single answers. Arms that miss many queries are
left out, then queries that miss an arm: judging a policy needs the outcome of everything it might have taken.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.data.samples import read_samples
from rheostat.data.schema import Action
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.replay import replay

if TYPE_CHECKING:
    import polars as pl

Codes = npt.NDArray[np.int16]
NO_ANSWER = -1
MIN_COVERAGE = 0.8
CELL = ("dataset", "query_id", "model", "strategy")
NOTHING = frozenset({"", "[invalid]", "invalid", "none", "null", "nan"})


@dataclass(frozen=True, slots=True)
class Logged:
    """A complete table, and what every action answered.

    Attributes:
        table: every query with the outcome of every action.
        answers: (n, a) number of the answer within its query, equal answers sharing it, `NO_ANSWER` where none could be
            read; None where the table was replayed from several samples.
        left_out: actions without enough outcomes, with the share of queries they had.
    """

    table: OutcomeTable
    answers: Codes | None
    left_out: Mapping[str, float]


def read_logged(path: Path, *, models: Sequence[str] = (), strategies: Sequence[str] = (), seed: int = 0) -> Logged:
    """The outcomes in a Parquet log, of some models and strategies or, where none are named, of all.

    Raises:
        DatasetError: the file does not fit, names none of the models or strategies, or no query has every action's outcome.
    """
    frame = _named(_named(read_samples(path), "model", models), "strategy", strategies)
    if frame.select(CELL).is_duplicated().any():
        table = replay(frame, seed=seed)
        whole = np.flatnonzero(table.known_in_full)
        return Logged(table.rows(whole), None, {})
    return _single(frame)


def read_prices(path: Path, table: str) -> dict[str, Price]:
    """Prices in USD per million generated tokens, by model.

    Args:
        path: JSON, `{model: usd}`, or `{table: {model: usd}}` for several tables.
        table: the name of the table, which is its file's without the ending.

    Raises:
        DatasetError: the file is no JSON of that form, or has nothing for the table.
    """
    try:
        stated = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read prices from {path}: {error}: write JSON, model to USD per million tokens") from error
    prices = stated.get(table, stated) if isinstance(stated, dict) else {}
    usable = {model: float(usd) for model, usd in prices.items() if isinstance(usd, int | float) and usd >= 0}
    if not usable:
        raise DatasetError(f"{path} has no prices for {table}: add them, or leave the prices out to count tokens")
    return {model: Price(usd_per_1m_output=usd) for model, usd in usable.items()}


def check_priced(table: OutcomeTable, prices: Mapping[str, Price]) -> None:
    """Refuse to price some models and count the tokens of others.

    Raises:
        DatasetError: a model of the table has no price.
    """
    missing = sorted({Action.parse(action).model for action in table.actions} - set(prices))
    if missing:
        raise DatasetError(f"no price for {missing[0]}: the file has {', '.join(sorted(prices))}; add it, or name the models with --models")


def answer_key(answer: str | None) -> str | None:
    """One spelling for equal answers of one query: numbers by value, text without case; None where nothing was answered."""
    text = (answer or "").strip().lower()
    if text in NOTHING:
        return None
    try:
        value = float(text.replace(",", "").replace("$", ""))
    except ValueError:
        return text
    return repr(round(value, 6)) if math.isfinite(value) else None


def _single(frame: pl.DataFrame) -> Logged:
    frame, left_out = _covered(frame)
    heads = frame.unique(["dataset", "query_id"], keep="first", maintain_order=True)
    arms = frame.select("model", "strategy").unique().sort("model", "strategy")
    shape = (len(heads), len(arms))
    keys = ["dataset", "query_id"]
    ordered = frame.join(heads.select(keys).with_row_index("row"), on=keys).join(arms.with_row_index("arm"), on=["model", "strategy"])
    ordered = ordered.sort("row", "arm")
    tokens = ordered["completion_tokens"].fill_null(0).to_numpy().reshape(shape).astype(float)
    table = OutcomeTable(
        query_ids=tuple(heads["query_id"]),
        texts=tuple(heads["query_text"]),
        datasets=tuple(heads["dataset"]),
        levels=tuple(heads["level"]),
        actions=_spellings(arms.rows(), cap=max(int(tokens.max()), 1)),
        # What could not be graded was not seen to be right, and stays in the denominator.
        reward=ordered["correct"].fill_null(0.0).to_numpy().reshape(shape).astype(float),
        tokens=tokens,
        prompt_tokens=ordered["prompt_tokens"].fill_null(0).to_numpy().reshape(shape).astype(float),
        latency_s=ordered["latency_s"].fill_null(0.0).to_numpy().reshape(shape).astype(float),
        weight=np.ones(shape),
    )
    return Logged(table, _codes(ordered).reshape(shape), left_out)


def _covered(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, float]]:
    """The rows of well-covered arms on the queries that have all of those, and the share of each arm left out."""
    import polars as pl

    n = frame.select("dataset", "query_id").n_unique()
    share = frame.group_by("model", "strategy").agg((pl.len() / n).alias("share")).sort("model", "strategy")
    kept = share.filter(pl.col("share") >= MIN_COVERAGE)
    left = {f"{model}/{strategy}": float(value) for model, strategy, value in share.filter(pl.col("share") < MIN_COVERAGE).iter_rows()}
    rows = frame.join(kept.select("model", "strategy"), on=["model", "strategy"])
    whole = rows.group_by("dataset", "query_id").len().filter(pl.col("len") == len(kept))
    if len(kept) < 2 or whole.is_empty():
        raise DatasetError(
            f"{len(kept)} of {len(share)} model and strategy pairs have outcomes on {MIN_COVERAGE:.0%} of the {n} queries, and "
            f"{len(whole)} queries have all of those: name pairs that share queries with --models and --strategies"
        )
    return rows.join(whole.select("dataset", "query_id"), on=["dataset", "query_id"], maintain_order="left"), left


def _codes(ordered: pl.DataFrame) -> Codes:
    import polars as pl

    keys = pl.Series("key", [answer_key(answer) for answer in ordered["answer"]], dtype=pl.String)
    ranks = ordered.select("row").with_columns(keys).select(pl.col("key").rank("dense").over("row").fill_null(0).cast(pl.Int16))
    return np.asarray(ranks["key"].to_numpy() - 1, dtype=np.int16)


def _spellings(arms: Sequence[tuple[str, ...]], *, cap: int) -> tuple[str, ...]:
    """Spellings of (model, strategy) pairs. Such logs state no caps: the longest reply of the table stands for all."""
    actions = tuple(str(Action(model, re.sub(r"[^a-z0-9]+", "_", strategy.lower()).strip("_"), cap)) for model, strategy in arms)
    if len(set(actions)) < len(actions):
        raise DatasetError(f"two strategies of one model are both spelled {max(actions, key=actions.count)!r}: rename one")
    return actions


def _named(frame: pl.DataFrame, column: str, names: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    known = set(frame[column].unique())
    if unknown := [name for name in names if name not in known]:
        raise DatasetError(f"no {column} {unknown[0]!r} in the log; it has {', '.join(sorted(known))}")
    return frame.filter(pl.col(column).is_in(list(names))) if names else frame
