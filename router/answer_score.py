"""How likely an answer is right by what it says, as served: small trees over its form, its record, and the query's prior.

An answer's record is how often this very answer was right for other questions: choices, yes and no, small numbers, and
what a model says when it gives up. Knows numbers only; `training.answer_scores` fits it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from rheostat.router.answer_features import AnswerFeatures, Question, answer_features
from rheostat.router.base import Array
from rheostat.router.calibration import clamp
from rheostat.router.trees import Trees

N_FEATURES = len(AnswerFeatures._fields) + 2  # and the record: how often right, and on how much evidence
LIMIT = 4.6  # log-odds of .99


@dataclass(frozen=True, slots=True)
class Records:
    """How often answers were right before.

    Attributes:
        keys: (m,) `answer_key`s, ascending.
        right: (m,) shrunk mean reward of each.
        seen: (m,) in how many questions' worth of samples it was seen.
        otherwise: mean reward of all answers, for one that has no record.
    """

    keys: npt.NDArray[np.int64]
    right: Array
    seen: Array
    otherwise: float

    def of(self, keys: npt.NDArray[np.int64]) -> Array:
        """(n, 2) how often right, and seen how often, for (n,) keys."""
        if not len(self.keys):
            return np.column_stack([np.full(len(keys), self.otherwise), np.zeros(len(keys))])
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found = self.keys[at] == keys
        return np.column_stack([np.where(found, self.right[at], self.otherwise), np.where(found, self.seen[at], 0.0)])


@dataclass(frozen=True, slots=True)
class AnswerScorer:
    """Log-odds that answers are right; `trees` look at (n, N_FEATURES + p) rows."""

    trees: Trees
    records: Records

    def scores(self, answers: Sequence[str], question: Question, prior: Sequence[float]) -> Array:
        """(n,) log-odds of answers to one question with (p,) prior."""
        rows = np.array([answer_features(answer, question) for answer in answers], dtype=np.float64)
        record = self.records.of(np.array([answer_key(answer) for answer in answers], dtype=np.int64))
        return log_odds(self.trees, np.column_stack([rows, record, np.broadcast_to(prior, (len(answers), len(prior)))]))


@dataclass(slots=True)
class ScoredQuery:
    """A scorer at work on one query: every answer is looked at once, however often it comes."""

    scorer: AnswerScorer
    question: Question
    prior: tuple[float, ...]
    _known: dict[str, float] = field(default_factory=dict)

    def __call__(self, answer: str) -> float:
        """Log-odds that the answer is right."""
        if answer not in self._known:
            self._known[answer] = float(self.scorer.scores([answer], self.question, self.prior)[0])
        return self._known[answer]


def log_odds(trees: Trees, rows: Array) -> Array:
    """(n,) log-odds of (n, N_FEATURES + p) rows."""
    return clamp(trees(rows), -LIMIT, LIMIT)


def answer_key(answer: str) -> int:
    """A number for an answer, the same on every machine."""
    return int.from_bytes(blake2b(answer.strip().lower().encode(), digest_size=8).digest(), signed=True)


def scorer_arrays(scorer: AnswerScorer) -> dict[str, npt.NDArray[Any]]:
    """A scorer as arrays by name."""
    records = scorer.records
    trees: dict[str, npt.NDArray[Any]] = {f"trees.{each.name}": getattr(scorer.trees, each.name) for each in fields(Trees)}
    return trees | {
        "records.keys": records.keys,
        "records.right": records.right,
        "records.seen": records.seen,
        "records.otherwise": np.array([records.otherwise]),
    }


def scorer_from(arrays: Mapping[str, npt.NDArray[Any]], n_prior: int) -> AnswerScorer:
    """The scorer that `scorer_arrays` took apart, for priors of `n_prior` numbers.

    Raises:
        KeyError: an array is missing.
        ValueError: the arrays are no trees over these features, or the records do not belong together.
    """
    trees = Trees(**{each.name: arrays[f"trees.{each.name}"] for each in fields(Trees)})
    trees.check(N_FEATURES + n_prior)
    keys, right, seen = (arrays[f"records.{name}"] for name in ("keys", "right", "seen"))
    if not keys.shape == right.shape == seen.shape == (len(keys),) or (np.diff(keys) <= 0).any():
        raise ValueError(f"records of {keys.shape} answers, {right.shape} rewards and {seen.shape} counts, or not in order")
    return AnswerScorer(trees, Records(keys, right, seen, float(arrays["records.otherwise"][0])))
