"""What accuracy can be promised along a path of multipliers: learn then test on queries that made nothing of the bundle.

The policies stand in an order fixed before those queries are looked at. Each "accuracy < target" is tested from the
dearest policy downward until the first that is not rejected, so no correction for many tests is due: for each target
the cheapest policy that passed meets it with the confidence asked for, on traffic exchangeable with the queries. Exact
for any number of them. That no policy passes is an answer as well. Knows predictions and rewards, and nothing of logs.
Sources: Angelopoulos et al. 2021 (Learn then Test); Clopper and Pearson 1934 (the exact binomial bound).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array


class Trial(NamedTuple):
    """Policies in order of cost, on queries that had no part in making them.

    Attributes:
        multiplier: (L,) ascending.
        right: (L,) how many of the queries each policy got right.
        n: how many there are.
    """

    multiplier: Array
    right: npt.NDArray[np.int64]
    n: int

    @classmethod
    def of(cls, multiplier: Array, rewards: Array, *, seed: int = 0) -> Trial:
        """The trial of (n, L) rewards in [0, 1].

        An expected reward stands for many answers, of which a request gets one: a coin of that chance is thrown for every
        query, the same for all policies. So the exact test for right and wrong holds for shares as well. On the shares of
        logged votes, whose variance is 0.8 of a coin's, its bounds are tighter than those of Hoeffding-Bentkus or betting.

        Args:
            seed: of the coins; they only matter where a reward is neither 0 nor 1.
        """
        return cls(multiplier, came_true(rewards, seed=seed).sum(axis=0), len(rewards))

    def promised(self, confidence: float) -> PromisedPath:
        """What each policy promises.

        Args:
            confidence: chance that a promise holds, in (0, 1).
        """
        bounds = lower_bounds(self.right, self.n, 1.0 - confidence)
        # A policy passes only where all dearer ones do.
        low = np.minimum.accumulate(bounds[::-1])[::-1]
        return PromisedPath(self.multiplier, low, self.n, float(self.right[-1]) / max(self.n, 1), confidence)


@dataclass(frozen=True, slots=True)
class PromisedPath:
    """Multipliers and the accuracy that each promises.

    Attributes:
        multiplier: (L,) ascending.
        low: (L,) promised accuracy, non-decreasing.
        n: queries that the promises rest on.
        best: share of them that the dearest policy got right.
        confidence: chance that a promise holds.
    """

    multiplier: Array
    low: Array
    n: int
    best: float
    confidence: float

    @property
    def attainable(self) -> float:
        """The most that can be promised."""
        return float(self.low[-1])

    def index_for(self, target: float) -> tuple[int, bool]:
        """Where the cheapest policy stands that promises the target; the one that promises most and False if none does."""
        return int(np.searchsorted(self.low, min(target, self.attainable))), target <= self.attainable

    def for_target(self, target: float) -> tuple[float, bool]:
        """The multiplier of that policy."""
        index, holds = self.index_for(target)
        return float(self.multiplier[index]), holds

    def needed(self, target: float) -> int | None:
        """About how many queries a promise of a target that is not attainable takes; None where no number will do."""
        needed = queries_needed(target, self.confidence, self.best)
        return None if needed is None else max(needed, self.n + 1)

    def why_not(self, target: float) -> str:
        """Why a target is not promised, and what would help."""
        said = f"{self.n} held-out queries promise at most {rounded_down(self.attainable)} with {self.confidence:.0%} confidence"
        if not self.n:
            return f"{said}: train on more queries with every action's outcome"
        needed = self.needed(target)
        if needed is not None:
            return f"{said}: {target:g} needs about {needed:,}"
        return f"{said}, and the dearest policy was right on {self.best:.3f} of them: more queries will not lift it to {target:g}"


def came_true(rewards: Array, *, seed: int = 0) -> npt.NDArray[np.bool_]:
    """(n, L) right or wrong of (n, L) chances to be right, by one throw of a coin a query, the same for all policies."""
    return np.random.default_rng(seed).random((len(rewards), 1)) < rewards


def rounded_down(accuracy: float) -> str:
    """An accuracy to three digits, none of which promises more than it."""
    return f"{math.floor(1000 * accuracy) / 1000:.3f}"


def lower_bounds(right: npt.NDArray[np.int64], n: int, delta: float) -> Array:
    """Exact lower bounds of chances of which `right` of n trials came true: each is too high with chance delta at most.

    A target is rejected by the binomial test at level delta exactly where it is at most the bound.

    Args:
        right: (L,) counts.
        n: trials; the bound of none is 0.
        delta: in (0, 1).
    """
    from scipy.special import betaincinv

    some = np.maximum(right, 1)
    return np.where(right > 0, betaincinv(some, np.maximum(n - some, 0) + 1.0, delta), 0.0)


def least_queries(target: float, delta: float) -> int:
    """How many queries can prove a target at level delta when every answer is right: target^n <= delta."""
    return math.ceil(math.log(delta) / math.log(target))


def queries_needed(target: float, confidence: float, accuracy: float) -> int | None:
    """About how many queries a promise takes from a policy of this accuracy; None where no number will do.

    Where the bound of n of them reaches the target in the normal approximation, and no fewer than if all were right.
    """
    if not 0.0 < target < accuracy:
        return None
    errors = max(NormalDist().inv_cdf(confidence), 0.0)
    needed = target * (1 - target) * (errors / (accuracy - target)) ** 2
    return max(math.ceil(needed), least_queries(target, 1.0 - confidence))
