"""Logs of outcomes that others recorded, as one table: every model x strategy in the log is an arm, and an action.

A log with several samples of a cell can be replayed, or each arm takes the mean of its samples. Arms that miss many
queries are left out, then queries that miss an arm: judging a policy needs the outcome of everything it might have taken.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.data.samples import one_word, read_samples
from rheostat.data.schema import Action
from rheostat.training.outcomes import Array, OutcomeTable
from rheostat.training.replay import default_actions, is_learned, label
from rheostat.training.sample_log import COUNTED, SampleLog, filled, ungraded

if TYPE_CHECKING:
    import polars as pl

Codes = npt.NDArray[np.int16]
NO_ANSWER = -1
MIN_COVERAGE = 0.8
QUERY = ("dataset", "query_id")
ARM = ("model", "strategy")
CELL = (*QUERY, *ARM)
NOTHING = frozenset({"", "[invalid]", "invalid", "none", "null", "nan"})


@dataclass(frozen=True, slots=True)
class Logged:
    """A complete table, and what every action answered.

    Attributes:
        table: every query with the outcome of every action.
        answers: (n, a) number of the answer within its query, equal answers sharing it, `NO_ANSWER` where none could be
            read; None where a cell had several.
        left_out: actions without enough outcomes, or none that can be replayed, with the share of queries they had.
        queries_left_out: queries of the log that miss an action's outcome.
        ungraded: models and strategies with answers that nobody graded, and the share of theirs, which count as wrong.
    """

    table: OutcomeTable
    answers: Codes | None
    left_out: Mapping[str, float]
    queries_left_out: int = 0
    ungraded: Mapping[str, float] = field(default_factory=dict)


def read_logged(
    path: Path, *, models: Sequence[str] = (), strategies: Sequence[str] = (), datasets: Sequence[str] = (), seed: int = 0
) -> Logged:
    """The outcomes in a Parquet log, replayed where it has several samples of a cell.

    Args:
        path: the log.
        models, strategies, datasets: the ones to keep; all where none are named.
        seed: of the replay.

    Raises:
        DatasetError: the file does not fit, lacks one of the names, or no query has every action's outcome.
    """
    frame = chosen(read_samples(path), models=models, strategies=strategies, datasets=datasets)
    if not frame.select(CELL).is_duplicated().any():
        return arms(frame)
    log = SampleLog.of(frame)
    table = label(log, [action for action in default_actions(log) if not is_learned(action)], seed=seed)
    whole = np.flatnonzero(table.known_in_full)
    return Logged(table.rows(whole), None, log.unused(table.actions), len(table) - len(whole), log.ungraded)


def chosen(
    frame: pl.DataFrame, *, models: Sequence[str] = (), strategies: Sequence[str] = (), datasets: Sequence[str] = ()
) -> pl.DataFrame:
    """The rows of some models, strategies and data sets, of all where none are named.

    Raises:
        DatasetError: one of them is not in the log.
    """
    for column, names in (("model", models), ("strategy", strategies), ("dataset", datasets)):
        frame = _named(frame, column, names)
    return frame


def arms(frame: pl.DataFrame) -> Logged:
    """Every arm with the mean of its samples; an ungraded sample was not seen to be right and counts as wrong.

    Args:
        frame: rows as `read_samples` gives them.

    Raises:
        DatasetError: fewer than two arms share queries.
    """
    import polars as pl

    single = not frame.select(CELL).is_duplicated().any()
    means = pl.col("correct", *COUNTED).fill_null(0).mean()
    cells = filled(frame).group_by(CELL).agg(pl.col("query_text", "level", "answer").first(), means).sort(CELL)
    complete, left_out = _covered(cells)
    names = complete.select(ARM).unique().sort(ARM).rows()
    codes = _codes(complete, len(names)) if single else None
    return Logged(_table(complete, names), codes, left_out, cells.select(QUERY).n_unique() - len(complete) // len(names), ungraded(frame))


def read_prices(path: Path, table: str = "") -> dict[str, Price]:
    """Prices by model from JSON: model -> USD per million generated tokens, or -> the fields of `Price`.

    Args:
        path: the file; its models may also lie one level down, under the name of a table.
        table: that name, which is the log's without the ending.

    Raises:
        DatasetError: the file cannot be read or holds no prices.
    """
    try:
        stated = json.loads(path.read_bytes())
        prices = {one_word(model): price for model, value in stated.get(table, stated).items() if (price := _price(value)) is not None}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f'cannot read prices from {path} ({error}): give JSON such as {{"model": 2.5}}') from error
    if not prices:
        tables = [str(name) for name, value in stated.items() if isinstance(value, Mapping) and _price(value) is None]
        under = f", or the log the name of one of its tables ({', '.join(tables)})" if tables else ""
        raise DatasetError(f'{path} holds no prices for {table or "a model"}: give JSON such as {{"model": 2.5}}{under}')
    return prices


def check_priced(table: OutcomeTable, prices: Mapping[str, Price]) -> None:
    """Refuse to price some models and count the tokens of others.

    Raises:
        DatasetError: a model of the table has no price.
    """
    missing = sorted({Action.parse(action).model for action in table.actions} - set(prices))
    if missing:
        raise DatasetError(f"no price for {missing[0]}: the file has {', '.join(sorted(prices))}; add it, or name the models with --model")


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


def _price(value: object) -> Price | None:
    if isinstance(value, int | float) and value >= 0:
        return Price(usd_per_1m_output=float(value))
    if isinstance(value, Mapping) and "usd_per_1m_output" in value:
        return Price(**{str(name): float(number) for name, number in value.items()})
    return None


def _covered(cells: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, float]]:
    """The cells of well-covered arms on the queries that have all of those, and the share of each arm left out."""
    import polars as pl

    n = cells.select(QUERY).n_unique()
    share = cells.group_by(ARM).agg((pl.len() / n).alias("share")).sort(ARM)
    kept = share.filter(pl.col("share") >= MIN_COVERAGE)
    left = {f"{model}/{strategy}": float(value) for model, strategy, value in share.filter(pl.col("share") < MIN_COVERAGE).iter_rows()}
    rows = cells.join(kept.select(ARM), on=ARM, maintain_order="left")
    whole = rows.filter(pl.len().over(QUERY) == len(kept))
    if len(share) == 1:
        only = "/".join(share.select(ARM).row(0))
        raise DatasetError(f"one action is left ({only}): there is nothing to choose between; log or name a second one")
    if len(kept) < 2 or whole.is_empty():
        raise DatasetError(
            f"{len(kept)} of {len(share)} model and strategy pairs have outcomes on {MIN_COVERAGE:.0%} of the {n} queries, and "
            f"{len(whole)} cells belong to queries with all of those: name pairs that share queries with --model and --strategy"
        )
    return whole, left


def _table(complete: pl.DataFrame, names: Sequence[tuple[str, ...]]) -> OutcomeTable:
    """The table of cells sorted by query and arm, every query with every arm."""
    heads = complete[:: len(names)]

    def grid(column: str) -> Array:
        return np.ascontiguousarray(complete[column].to_numpy().astype(np.float64).reshape(-1, len(names)))

    tokens = grid("completion_tokens")
    return OutcomeTable(
        query_ids=tuple(heads["query_id"]),
        texts=tuple(heads["query_text"]),
        datasets=tuple(heads["dataset"]),
        levels=tuple(heads["level"]),
        actions=_spellings(names, cap=max(int(np.ceil(tokens.max())), 1)),
        reward=grid("correct"),
        tokens=tokens,
        prompt_tokens=grid("prompt_tokens"),
        latency_s=grid("latency_s"),
        weight=np.ones_like(tokens),
    )


def _codes(complete: pl.DataFrame, a: int) -> Codes:
    import polars as pl

    keys = pl.Series("key", [answer_key(answer) for answer in complete["answer"]], dtype=pl.String)
    ranks = complete.select(QUERY).with_columns(keys).select(pl.col("key").rank("dense").over(QUERY).fill_null(0).cast(pl.Int16))
    return np.asarray(ranks["key"].to_numpy() - 1, dtype=np.int16).reshape(-1, a)


def _spellings(names: Sequence[tuple[str, ...]], *, cap: int) -> tuple[str, ...]:
    """Spellings of (model, strategy) pairs. Such logs state no caps: the longest reply of the table stands for all."""
    actions = tuple(str(Action(model, _slug(strategy), cap)) for model, strategy in names)
    if len(set(actions)) < len(actions):
        raise DatasetError(f"two strategies of one model are both spelled {max(actions, key=actions.count)!r}: rename one")
    return actions


def _slug(strategy: str) -> str:
    """A strategy's name as an action may spell it."""
    plain = re.sub(r"[^a-z0-9]+", "_", strategy.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"s_{plain}"


def _named(frame: pl.DataFrame, column: str, names: Sequence[str]) -> pl.DataFrame:
    """The rows with one of the names; a name also stands for all below it, as mmlu does for mmlu/physics."""
    import polars as pl

    known = sorted(frame[column].unique())
    found = {name: [each for each in known if each == name or each.startswith(f"{name}/")] for name in names}
    if unknown := [name for name in names if not found[name]]:
        raise DatasetError(f"no {column} {unknown[0]!r} in the log; it has {', '.join(known)}")
    return frame.filter(pl.col(column).is_in([each for below in found.values() for each in below])) if names else frame
