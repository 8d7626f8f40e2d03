"""Logged answers as groups of n to one question by one model: what an outcome reward learns from.

Groups are cut from the samples in the order in which they were drawn, so no sample is in two of them. Knows no learner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.policies.scorers.answer_features import STATISTICS, Answer, Rows, answer_statistics
from rheostat.router.base import Encoder
from rheostat.training.embeddings import embed
from rheostat.training.outcomes import Array

if TYPE_CHECKING:
    import polars as pl

SAMPLED = ("cot",)
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Groups:
    """G groups of n answers each, flattened to G * n rows, the answers of a group next to each other.

    Attributes:
        n: answers in a group.
        query: (G,) index of each group's question in `questions`.
        answers: (G * n,) index of each answer in `texts`; 0 is the empty text of an answer that could not be parsed.
        parsed: (G * n,).
        correct: (G * n,) 0..1.
        logprob: (G * n,) mean log-probability, -inf where not logged.
        statistics: (G * n, len(STATISTICS)).
    """

    n: int
    questions: tuple[str, ...]
    texts: tuple[str, ...]
    query: npt.NDArray[np.intp]
    answers: npt.NDArray[np.intp]
    parsed: npt.NDArray[np.bool_]
    correct: Array
    logprob: Array
    statistics: Rows

    def rows_of(self, queries: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """The rows of all groups of some questions."""
        groups = np.flatnonzero(np.isin(self.query, queries))
        return (groups[:, None] * self.n + np.arange(self.n)).ravel()

    def by_group(self, values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """(G * n,) as (G, n)."""
        return values.reshape(-1, self.n)


def read_groups(frame: pl.DataFrame, n: int, *, models: Sequence[str] = ()) -> Groups:
    """The groups of a sample log: chains of thought of every model at every temperature above 0, each by itself.

    Args:
        frame: rows as `data.samples.read_samples` gives them.
        n: answers in a group; what is left over of a question is not used.
        models: only these; all where empty.

    Raises:
        DatasetError: no question has n graded samples of one model.
    """
    import polars as pl

    usable = frame.filter(pl.col("strategy").is_in(SAMPLED) & (pl.col("temperature") > 0) & pl.col("correct").is_not_null())
    if models:
        usable = usable.filter(pl.col("model").is_in(list(models)))
    found = []
    for _, samples in usable.sort("sample_index").group_by("dataset", "query_id", "model", "temperature", maintain_order=True):
        found += [samples[start : start + n] for start in range(0, len(samples) - n + 1, n)]
    if not found:
        raise DatasetError(f"no question has {n} graded chains of thought of one model: collect more samples, or choose a smaller --n")
    return _groups(found, n)


def embedded(groups: Groups, encoder: Encoder, on_progress: Callable[[float], None]) -> tuple[Rows, Rows]:
    """(questions, d) and (texts, d) embeddings."""
    questions = embed(encoder, groups.questions, on_progress=on_progress)
    return questions, embed(encoder, groups.texts)


def _groups(found: Sequence[pl.DataFrame], n: int) -> Groups:
    import polars as pl

    texts: dict[str, int] = {"": 0}
    questions: dict[str, int] = {}
    query = [questions.setdefault(group["query_text"][0], len(questions)) for group in found]
    rows = pl.concat(found)
    answers = [texts.setdefault(answer or "", len(texts)) for answer in rows["answer"]]
    return Groups(
        n=n,
        questions=tuple(questions),
        texts=tuple(texts),
        query=np.array(query, dtype=np.intp),
        answers=np.array(answers, dtype=np.intp),
        parsed=rows["answer"].is_not_null().to_numpy(),
        correct=rows["correct"].to_numpy(),
        logprob=rows["mean_logprob"].fill_null(-np.inf).to_numpy(),
        statistics=np.concatenate([_statistics(group) for group in found]).reshape(-1, len(STATISTICS)),
    )


def _statistics(group: pl.DataFrame) -> Rows:
    columns = (group["answer"], group["completion_tokens"].fill_null(0), group["mean_logprob"], group["finish_reason"])
    return answer_statistics(group["query_text"][0], [Answer(*values) for values in zip(*columns, strict=True)])
