"""Multi-sample logs as items: K and more sampled answers of one model to one question, coded for replay.

A group is a data set, model and strategy, and a run and temperature where the log has them. Texts and answers may be
null: a null answer is an unparsed sample, and a question without text is known by its id alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.data.parquet import read_parquet
from rheostat.training.expected_rewards import Answered
from rheostat.training.outcomes import Array
from rheostat.training.trajectories import Codes, Trajectories, random_orders, trajectories

if TYPE_CHECKING:
    import polars as pl

QUESTION = ("dataset", "query_id")
REQUIRED = (*QUESTION, "model", "strategy", "sample_index", "answer", "correct")
OPTIONAL = ("run_id", "temperature")
LOGPROB = "mean_logprob"


@dataclass(frozen=True, slots=True)
class Items:
    """`n` items of samples in order of submission.

    Attributes:
        question: (n,) number of the question, `texts` and `names` by number; a text is None where the log has none.
        group: (n,) number of the group, `groups` its name.
        codes: (n, S) answer numbers within the item, -1 where unparsed or beyond `count`; `answers` their texts by number.
        logprobs: (n, S) mean log-probability of each sample, NaN where the log has none.
        count: (n,) samples present.
        rewards: (n, A) mean reward of each answer.
        correct: (n,) mean reward of a sample, an unparsed one being wrong.
    """

    question: npt.NDArray[np.intp]
    texts: tuple[str | None, ...]
    names: tuple[str, ...]
    group: npt.NDArray[np.intp]
    groups: tuple[str, ...]
    codes: Codes
    answers: tuple[tuple[str, ...], ...]
    logprobs: Array
    count: npt.NDArray[np.intp]
    rewards: Array
    correct: Array

    def __len__(self) -> int:
        return len(self.codes)

    def answered(self, known: Array, scores: Array | None = None) -> Answered:
        """The items as what was answered, with (n, m) `known` of each query beforehand and (n, A) scores of the answers."""
        nothing = np.zeros(self.rewards.shape)
        return Answered(self.codes, self.count, self.rewards, self.question, known, nothing if scores is None else scores)

    def runs(
        self, index: npt.NDArray[np.intp], k: int, rounds: int, *, seed: int, scores: Array | None = None, expected: Array | None = None
    ) -> tuple[Trajectories, npt.NDArray[np.intp]]:
        """`rounds` random runs of k samples of every item at `index`, without replacement, and (r,) the item of each.

        Submitted samples of one item are exchangeable, so every order is as good as the logged one.

        Args:
            index: of the items.
            k: samples of a run.
            rounds: runs of each item.
            seed: of the orders.
            scores: (n, A) what the answers of all items say for themselves.
            expected: (n, A) what they are expected to be worth.
        """
        item = np.repeat(index, rounds)
        order = random_orders(self.count[item], self.codes.shape[1], np.random.default_rng(seed))[:, :k]
        codes = np.take_along_axis(self.codes[item], order, axis=1)
        logprobs = np.take_along_axis(self.logprobs[item], order, axis=1)
        return drawn_runs(codes, logprobs, self.rewards[item], *(None if each is None else each[item] for each in (scores, expected))), item


def read_items(path: Path, k: int) -> Items:
    """The items of a log that have at least k samples.

    Raises:
        DatasetError: the file lacks a column, has values that do not fit, or no item with k samples.
    """
    frame = read_parquet(path)
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise DatasetError(f"{path}: missing columns {', '.join(missing)}: a log of samples needs {', '.join(REQUIRED)}")
    return items_of(frame, k, str(path))


def items_of(frame: pl.DataFrame, k: int, where: str = "the log") -> Items:
    """The items of a frame with the columns of `REQUIRED`; see `read_items`."""
    import polars as pl

    _check(frame, where)
    group = [*(name for name in ("dataset", "model", "strategy", *OPTIONAL) if name in frame.columns)]
    text = pl.col("query_text") if "query_text" in frame.columns else pl.lit(None, dtype=pl.String)
    likely = pl.col(LOGPROB).cast(pl.Float64) if LOGPROB in frame.columns else pl.lit(None, dtype=pl.Float64)
    rows = (
        frame.with_columns(
            text.alias("query_text"), likely.fill_null(float("nan")).alias(LOGPROB), pl.col("correct").cast(pl.Float64).fill_null(0.0)
        )
        .with_columns(pl.concat_str(pl.col(group).cast(pl.String).fill_null("-"), separator="|").alias("group"))
        .filter(pl.len().over("group", *QUESTION) >= k)
        .sort("group", *QUESTION, "sample_index")
    )
    if rows.is_empty():
        raise DatasetError(f"{where}: no question has {k} samples of one model and strategy: collect more, or lower --k")
    return _coded(rows.with_columns(pl.struct("group", *QUESTION).rle_id().alias("item")))


def _check(frame: pl.DataFrame, where: str) -> None:
    import polars as pl

    bad = frame.with_row_index("row").filter(pl.col("correct").cast(pl.Float64).is_between(0, 1).not_())
    if len(bad):
        row = int(bad["row"][0])
        raise DatasetError(f"{where} row {row}: correct is {bad['correct'][0]!r}, must be in [0, 1] or null: correct or drop the row")
    key = [name for name in ("dataset", "query_id", "model", "strategy", *OPTIONAL, "sample_index") if name in frame.columns]
    again = frame.select(key).is_duplicated().arg_max()
    if again is not None and frame.select(key).is_duplicated().any():
        raise DatasetError(f"{where} row {again}: the sample comes more than once ({', '.join(key)}): drop the repeats")


def _coded(rows: pl.DataFrame) -> Items:
    import polars as pl

    answer = (pl.col("answer").cast(pl.String).rank("dense").over("item").cast(pl.Int16).fill_null(0) - 1).cast(pl.Int16)
    rows = rows.with_columns(answer.alias("code"), pl.concat_str(pl.col(QUESTION), separator="|").alias("name"))
    item, code = rows["item"].to_numpy().astype(np.intp), rows["code"].to_numpy()
    count = np.bincount(item)
    column = np.arange(len(item)) - (np.cumsum(count) - count)[item]
    codes = np.full((len(count), int(count.max())), -1, dtype=np.int16)
    codes[item, column] = code
    logprobs = np.full(codes.shape, np.nan)
    logprobs[item, column] = rows[LOGPROB].to_numpy()
    correct = np.where(code >= 0, rows["correct"].to_numpy(), 0.0)
    heads = rows.group_by("item", maintain_order=True).first()
    questions = rows.group_by("name", maintain_order=True).agg(pl.col("query_text").drop_nulls().first()).sort("name")
    names, groups = questions["name"].to_list(), heads["group"].unique().sort().to_list()
    return Items(
        question=np.searchsorted(names, heads["name"].to_list()),
        texts=tuple(questions["query_text"]),
        names=tuple(names),
        group=np.searchsorted(groups, heads["group"].to_list()),
        groups=tuple(groups),
        codes=codes,
        answers=_answer_texts(rows),
        logprobs=logprobs,
        count=count,
        rewards=_mean_by_code(item, code, correct, len(count)),
        correct=np.bincount(item, weights=correct) / count,
    )


def _answer_texts(rows: pl.DataFrame) -> tuple[tuple[str, ...], ...]:
    """The different answers of every item in order, which is that of their numbers."""
    import polars as pl

    different = pl.col("answer").cast(pl.String).drop_nulls().unique().sort()
    return tuple(map(tuple, rows.group_by("item", maintain_order=True).agg(different)["answer"].to_list()))


def drawn_runs(codes: Codes, logprobs: Array, rewards: Array, scores: Array | None = None, expected: Array | None = None) -> Trajectories:
    """Follow runs whose answers have the numbers of their items.

    Args:
        codes: (r, K) in order of submission, -1 where unparsed.
        logprobs: (r, K) of the samples, not finite where unknown.
        rewards: (r, A) of the answers of each run's item.
        scores: (r, A) what these say for themselves; unknown when None.
        expected: (r, A) what they are expected to be worth; their rewards when None.
    """
    again, worth = relabelled(codes, rewards)
    scores, expected = (None if each is None else by_sample(codes, each) for each in (scores, expected))
    return trajectories(again, worth, logprobs, scores=scores, expected=expected)


def relabelled(codes: Codes, rewards: Array) -> tuple[Codes, Array]:
    """Answers numbered by where they first appear in the run, so that no run has more than K, with their rewards."""
    first = (codes[:, :, None] == codes[:, None, :]).argmax(axis=2).astype(np.int16)
    return np.where(codes >= 0, first, np.int16(-1)), by_sample(codes, rewards)


def by_sample(codes: Codes, values: Array) -> Array:
    """(r, K) values of the samples' answers, for (r, A) values of answers."""
    return np.take_along_axis(values, np.maximum(codes, 0).astype(np.intp), axis=1)


def _mean_by_code(item: npt.NDArray[np.intp], code: npt.NDArray[np.int16], correct: Array, n: int) -> Array:
    """(n, A) mean reward of each answer of an item."""
    total, seen = (np.zeros((n, max(int(code.max()) + 1, 1))) for _ in range(2))
    voted = code >= 0
    np.add.at(total, (item[voted], code[voted]), correct[voted])
    np.add.at(seen, (item[voted], code[voted]), 1.0)
    return np.asarray(total / np.maximum(seen, 1))
