"""A sample log coded for replay: every base sampler's answers, rewards and costs as arrays with a row a query.

A base sampler is a model asked in one way at one temperature. Knows nothing of budgets, votes or actions' labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.data.schema import Action
from rheostat.training.outcomes import Array

if TYPE_CHECKING:
    import polars as pl

UNPARSED = -1
DIRECT = "direct"
CHAIN = "cot"
VOTE_TEMPERATURE = 0.8
COUNTED = ("completion_tokens", "prompt_tokens", "latency_s")
_LEAST = -1e30

Codes = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Sampled:
    """All samples of one base sampler, (n, K) with K the longest row; `count` says how many of a row are real.

    Attributes:
        codes: answer numbers within the query, -1 where unparsed.
        correct: 0..1.
        scores: mean log-probability, least where unparsed, next to it where not logged; see `logprobs`.
        count: (n,) samples present; they come first in each row.
        shared: answer numbers that mean the same with every sampler of the log; like `codes` where None.
        answers: for each query the different answers in order of their numbers; empty where the texts are not known.
    """

    codes: Codes
    correct: Array
    tokens: Array
    prompt_tokens: Array
    latency_s: Array
    scores: Array
    count: npt.NDArray[np.intp]
    shared: Codes | None = None
    answers: tuple[tuple[str, ...], ...] = ()

    @property
    def depth(self) -> int:
        """K, the samples of the best-sampled query."""
        return int(self.codes.shape[1])

    @property
    def logprobs(self) -> Array:
        """(n, K) mean log-probabilities, NaN where unparsed or not logged."""
        return np.where(self.scores > _LEAST, self.scores, np.nan)

    def mean(self, cells: Array) -> Array:
        """(n,) means of (n, K) cells over the samples present."""
        return np.asarray(cells.sum(axis=1) / np.maximum(self.count, 1))


Samplers = Mapping[tuple[str, str, float], Sampled]


@dataclass(frozen=True, slots=True)
class SampleLog:
    """Samplers by (model, prompt, temperature), and the queries that are their rows; `ungraded` as below."""

    samplers: Samplers
    query_ids: tuple[str, ...]
    texts: tuple[str, ...]
    datasets: tuple[str, ...]
    levels: tuple[int, ...]
    ungraded: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: pl.DataFrame) -> SampleLog:
        """The log in a frame of `Sample` columns; `read_samples` gives it.

        Raises:
            DatasetError: the frame is empty.
        """
        if frame.is_empty():
            raise DatasetError("the log is empty: run `rheostat collect` first, or name a log with rows")
        blank = ungraded(frame)
        frame = filled(frame.with_columns(_correct_column(frame).alias("correct")))
        heads = frame.unique(["dataset", "query_id"], keep="first", maintain_order=True)
        return cls(
            samplers=_samplers(frame, heads),
            query_ids=tuple(heads["query_id"].to_list()),
            texts=tuple(heads["query_text"].fill_null("").to_list()),
            datasets=tuple(heads["dataset"].to_list()),
            levels=tuple(heads["level"].to_list()) if "level" in heads.columns else (0,) * len(heads),
            ungraded=blank,
        )

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def models(self) -> list[str]:
        """Names of the models, in order of the alphabet."""
        return sorted({model for model, _, _ in self.samplers})

    def unused(self, actions: Sequence[str]) -> dict[str, float]:
        """The models and strategies whose samples stand for none of the actions, with the share of queries they have."""
        used = {(action.model, base_of(action)) for action in map(Action.parse, actions)}
        left = [
            (f"{model}/{strategy}", sampled) for (model, strategy, _), sampled in self.samplers.items() if (model, strategy) not in used
        ]
        return {name: float((sampled.count > 0).mean()) for name, sampled in sorted(left, key=lambda item: item[0])}

    def sampler_of(self, action: Action) -> Sampled:
        """The samples that stand for an action's calls.

        Raises:
            DatasetError: the log has none of the action's model and prompt.
        """
        sampled = self.nearest(action)
        if sampled is None:
            known = ", ".join(f"{model}/{strategy}" for model, strategy, _ in sorted(self.samplers))
            raise DatasetError(
                f"no samples of {action.model}/{base_of(action)} for {action}: collect them, or leave the action out; the log has {known}"
            )
        return sampled

    def nearest(self, action: Action) -> Sampled | None:
        """The sampler at the temperature nearest to the one the action runs at, of those that are deep enough if any is.

        One call runs greedily. A log without greedy samples stands in for it with what it has.
        """
        single = action.strategy in (DIRECT, CHAIN)
        wanted = 0.0 if single else float(action.arguments.get("temperature", VOTE_TEMPERATURE))
        found = [(t, sampled) for (model, base, t), sampled in self.samplers.items() if (model, base) == (action.model, base_of(action))]
        ranked = sorted(found, key=lambda item: (item[1].depth < needed(action), abs(item[0] - wanted), item[0]))
        return ranked[0][1] if ranked else None


def needed(action: Action) -> int:
    """How many samples an action draws at most."""
    return int(action.arguments.get("k", action.arguments.get("n", 1)))


def base_of(action: Action) -> str:
    """The logged strategy whose samples stand for an action's calls."""
    return DIRECT if action.strategy == DIRECT else CHAIN


def ungraded(frame: pl.DataFrame) -> dict[str, float]:
    """The models and strategies with answers that nobody graded, and the share of theirs, which count as wrong."""
    import polars as pl

    if "correct" not in frame.columns:
        return {}
    share = frame.group_by("model", "strategy").agg(pl.col("correct").is_null().mean().alias("share")).sort("model", "strategy")
    return {f"{model}/{strategy}": float(value) for model, strategy, value in share.iter_rows() if value}


def filled(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with what was not counted as the mean of its model and strategy: as nothing it would look free.

    Null stays where a model and strategy were never counted.
    """
    import polars as pl

    known = [name for name in COUNTED if name in frame.columns]
    return frame.with_columns(pl.col(name).fill_null(pl.col(name).mean().over("model", "strategy")) for name in known)


def _correct_column(frame: pl.DataFrame) -> pl.Expr:
    import polars as pl

    # Null is "could not be graded": nothing right was seen, and it must stay in the denominator.
    return pl.col("correct").fill_null(0.0) if "correct" in frame.columns else pl.lit(0.0)


def _samplers(frame: pl.DataFrame, heads: pl.DataFrame) -> Samplers:
    """Every base sampler's samples, rows in the order of `heads`."""
    import polars as pl

    rows = heads.select("dataset", "query_id").with_row_index("row")
    frame = frame.join(rows, on=["dataset", "query_id"]).sort("row", "sample_index")
    frame = frame.with_columns(_numbered(pl.col("answer")).alias("shared"))
    groups = frame.partition_by("model", "strategy", "temperature", as_dict=True)
    return {(str(key[0]), str(key[1]), float(key[2] or 0.0)): _sampled(group, len(heads)) for key, group in groups.items()}


def _numbered(answer: pl.Expr) -> pl.Expr:
    """Answers as numbers within their query, -1 where unparsed."""
    import polars as pl

    return answer.rank("dense").over("row").fill_null(0).cast(pl.Int16) - 1


def _sampled(group: pl.DataFrame, n: int) -> Sampled:
    import polars as pl

    row = group["row"].to_numpy().astype(np.intp)
    count = np.bincount(row, minlength=n)
    column = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    answers = group.select(_numbered(pl.col("answer")))["answer"].to_numpy()

    def grid(values: Array, empty: float = 0.0) -> Array:
        cells = np.full((n, int(count.max())), empty)
        cells[row, column] = values
        return cells

    # A parsed answer beats an unparsed one, even where its log-probability was not logged.
    scores = np.where(answers == UNPARSED, -np.inf, _numbers(group, "mean_logprob", _LEAST))
    return Sampled(
        codes=grid(answers, UNPARSED).astype(np.int16),
        correct=grid(_numbers(group, "correct")),
        tokens=grid(_numbers(group, "completion_tokens")),
        prompt_tokens=grid(_numbers(group, "prompt_tokens"))[:, 0],
        latency_s=grid(_numbers(group, "latency_s")),
        scores=grid(scores, -np.inf),
        count=count,
        shared=grid(group["shared"].to_numpy(), UNPARSED).astype(np.int16),
        answers=_answer_texts(group, n),
    )


def _answer_texts(group: pl.DataFrame, n: int) -> tuple[tuple[str, ...], ...]:
    """The different answers of every row, in order of their numbers."""
    import polars as pl

    different = group.group_by("row").agg(pl.col("answer").cast(pl.String).drop_nulls().unique().sort())
    texts: list[tuple[str, ...]] = [()] * n
    for row, answers in different.iter_rows():
        texts[row] = tuple(answers)
    return tuple(texts)


def _numbers(group: pl.DataFrame, name: str, missing: float = 0.0) -> Array:
    import polars as pl

    if name not in group.columns:
        return np.full(len(group), missing)
    return np.asarray(group[name].cast(pl.Float64).fill_null(missing).to_numpy())
