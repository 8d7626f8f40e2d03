"""What answers are expected to be worth, for fitting stop rules: rewards without most of their noise.

Whether the second answer of a contested question is the right one is a coin toss, and a log holds few questions. So rules
are fitted on what an answer is expected to be worth, given its share of all samples, its rivals' and whatever else is
known of it, as learned from other questions' answers; its own reward adds little. Rules are judged on rewards alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rheostat.training.boosting import fit_booster
from rheostat.training.outcomes import Array

if TYPE_CHECKING:
    from lightgbm import Booster

OWN = 0.1  # weight of an answer's own reward
FOLDS = 5
ROUNDS = 100
MIN_LEAF_SHARE = 0.005
_SETTINGS = {
    "learning_rate": 0.08,
    "num_leaves": 8,
    "lambda_l2": 5.0,
}


@dataclass(frozen=True, slots=True)
class Answered:
    """What was sampled for n items.

    Attributes:
        codes: (n, S) answer numbers within the item, below A, -1 where unparsed or missing.
        count: (n,) samples present.
        rewards: (n, A) mean reward of each answer.
        query: (n,) number of the item's query: no answer is judged by others of the same query.
        known: (n, m) what is known of the query beforehand; m may be 0.
        scores: (n, A) what each answer says for itself; all 0 where unknown.
    """

    codes: npt.NDArray[np.int16]
    count: npt.NDArray[np.intp]
    rewards: Array
    query: npt.NDArray[np.intp]
    known: Array
    scores: Array

    @property
    def shares(self) -> Array:
        """(n, A) share of each answer in its item's samples."""
        votes = np.zeros(self.rewards.shape)
        item, column = np.nonzero(self.codes >= 0)
        np.add.at(votes, (item, self.codes[item, column]), 1.0)
        return np.asarray(votes / np.maximum(self.count, 1)[:, None])

    def folds(self, n_folds: int, seed: int) -> npt.NDArray[np.intp]:
        """(n,) fold of each item, all items of a query being in the same."""
        return np.random.default_rng(seed).integers(0, n_folds, int(self.query.max()) + 1)[self.query]


def expected_rewards(answered: Answered, seen: npt.NDArray[np.bool_], *, seed: int) -> Array:
    """(n, A) expected rewards of the answers.

    Args:
        answered: of all items.
        seen: (n,) items whose rewards may be looked at; those of the others are left as they are.
        seed: of the folds and the learners.
    """
    shares = answered.shares
    item, code = np.nonzero(shares)
    rows, weight, reward = _rows(answered, shares, item, code), shares[item, code], answered.rewards[item, code]
    fold = answered.folds(FOLDS, seed)[item]
    expected = answered.rewards.copy()
    for number in range(FOLDS):
        fitting, held = (np.flatnonzero(seen[item] & side) for side in (fold != number, fold == number))
        if len(fitting) and len(held):
            learned = _learner(rows[fitting], reward[fitting], weight[fitting], seed).predict(rows[held], num_threads=1)
            expected[item[held], code[held]] = OWN * reward[held] + (1 - OWN) * np.asarray(learned)
    return expected


def _rows(answered: Answered, shares: Array, item: npt.NDArray[np.intp], code: npt.NDArray[np.intp]) -> Array:
    """(p, f) an answer's share, its best rival's, its rank and score, and the spread of its item's answers."""
    ranked = -np.sort(-np.pad(shares, ((0, 0), (0, 1))), axis=1)
    rank = np.minimum((-shares).argsort(axis=1, kind="stable").argsort(axis=1), 4)[item, code]
    own, best, second = shares[item, code], ranked[item, 0], ranked[item, 1]
    rival = np.where(own >= best, second, best)
    distinct = (shares > 0).sum(axis=1) / np.maximum(answered.count, 1)
    spread = np.column_stack([distinct, shares.sum(axis=1), _entropy(shares), answered.known])
    return np.column_stack([own, rival, own - rival, rank, answered.scores[item, code], spread[item]])


def _entropy(shares: Array) -> Array:
    return np.asarray(-(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=1))


def _learner(rows: Array, reward: Array, weight: Array, seed: int) -> Booster:
    leaf = max(1, round(MIN_LEAF_SHARE * len(rows)), min(20, len(rows) // 10))
    return fit_booster(rows, reward, weight, settings=_SETTINGS | {"min_data_in_leaf": leaf}, rounds=ROUNDS, seed=seed)
