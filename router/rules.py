"""Decision rules: predictions in, one action out. Knows nothing of HTTP, models or logs.

`average` minimises cost - multiplier * P(correct); one multiplier for all queries spends where the marginal gain per
token is best, and a `MultiplierPath` says which multiplier reaches which mean accuracy. `per_query` takes the cheapest
action whose lower bound meets the target. Ties go to the cheaper action, then to the first in the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rheostat.data.schema import Constraints
from rheostat.router.base import Array, Prediction
from rheostat.router.calibration import pool_adjacent_violators

Mask = npt.NDArray[np.bool_]


def average(p_correct: Array, cost: Array, admissible: Mask, *, multiplier: float) -> int:
    """argmin over admissible actions of cost - multiplier * P(correct); `multiplier` in cost units per unit of accuracy."""
    return _first_smallest(cost - multiplier * p_correct, cost, admissible)


def per_query(p_low: Array, cost: Array, admissible: Mask, *, target: float) -> tuple[int, bool]:
    """The cheapest admissible action whose lower bound meets the target; else the one with the best bound, and False."""
    meets = admissible & (p_low >= target)
    if meets.any():
        return _first_smallest(cost, cost, meets), True
    return _first_smallest(-p_low, cost, admissible), False


def most_accurate(p_correct: Array, cost: Array, admissible: Mask) -> int:
    """The admissible action most likely to be right."""
    return _first_smallest(-p_correct, cost, admissible)


def admissible(prediction: Prediction, caps: npt.NDArray[np.int64], latency_p95: Array, constraints: Constraints, *, allowed: Mask) -> Mask:
    """Which actions fit the request.

    Args:
        prediction: of this query.
        caps: (a,) the actions' caps in generated tokens; a token cap is a promise, so the cap counts, not the mean.
        latency_p95: (a,) 95th percentile of seconds over the expected seconds.
        constraints: of the request; a cost cap is held against the expected cost.
        allowed: (a,) actions whose model is available.

    Returns:
        (a,) mask; `allowed` itself where the request has no limits.
    """
    mask = allowed
    if constraints.max_cost_usd is not None:
        mask = mask & (prediction.cost_usd <= constraints.max_cost_usd)
    if constraints.max_tokens_total is not None:
        mask = mask & (caps <= constraints.max_tokens_total)
    if constraints.deadline_s is not None:
        mask = mask & (prediction.latency_s * latency_p95 <= constraints.deadline_s)
    return mask


def choose_rows(p_correct: Array, cost: Array, multiplier: float) -> npt.NDArray[np.intp]:
    """(n,) the `average` rule on (n, a) predictions, every action admissible."""
    score = cost - multiplier * p_correct
    tied = score <= score.min(axis=1, keepdims=True)
    return np.asarray(np.where(tied, cost, np.inf).argmin(axis=1), dtype=np.intp)


def choose_along(p_correct: Array, cost: Array, multipliers: Iterable[float]) -> npt.NDArray[np.intp]:
    """(n, L) what `choose_rows` takes at each of L multipliers."""
    return np.stack([choose_rows(p_correct, cost, multiplier) for multiplier in multipliers], axis=1)


def multiplier_grid(cost: Array, size: int = 121) -> Array:
    """(size,) multipliers from `take the cheapest` to `take the most accurate`, evenly spaced in the logarithm.

    The first is 0. Ratios of a cost difference to an accuracy difference lie between the cheapest action's cost over 1
    and the dearest action's cost over 0.002, below which predictions do not tell actions apart.
    """
    mean = np.maximum(cost.mean(axis=0), 1e-15)
    return np.concatenate([[0.0], np.geomspace(mean.min() / 2, mean.max() / 0.002, size - 1)])


@dataclass(frozen=True, slots=True)
class MultiplierPath:
    """What each multiplier gave on held-out queries: arrays of one length, multipliers ascending.

    Attributes:
        accuracy: mean reward, made non-decreasing.
        cost: mean cost in USD.
    """

    multiplier: Array
    accuracy: Array
    cost: Array

    @classmethod
    def of(cls, p_correct: Array, cost: Array, reward: Array, *, paid: Array | None = None, grid: Array | None = None) -> MultiplierPath:
        """The path of (n, a) predictions and costs against (n, a) true rewards.

        The accuracy is smoothed to be monotone: single dips along the path are noise of the n queries.

        Args:
            paid: (n, a) true costs; as expected when None.
            grid: (L,) multipliers; from the costs when None.
        """
        grid = multiplier_grid(cost) if grid is None else grid
        picks = choose_along(p_correct, cost, grid)
        seen = np.take_along_axis(reward, picks, axis=1).mean(axis=0)
        levels, lengths = pool_adjacent_violators(seen, np.ones(len(seen)))
        spent = np.take_along_axis(cost if paid is None else paid, picks, axis=1).mean(axis=0)
        return cls(grid, np.repeat(levels, lengths.astype(int)), spent)

    def for_target(self, target: float) -> tuple[float, bool]:
        """The smallest multiplier whose mean accuracy meets the target; the best attainable and False if none does."""
        index, attainable = self.index_for(target)
        return float(self.multiplier[index]), attainable

    def index_for(self, target: float) -> tuple[int, bool]:
        """Where on the path that multiplier stands."""
        meets = self.accuracy >= target - 1e-12
        first = int(meets.argmax())
        return (first, True) if meets[first] else (int(self.accuracy.argmax()), False)

    def for_cost(self, max_mean_cost: float) -> tuple[float, bool]:
        """The largest multiplier whose mean cost is within the budget; the cheapest and False if none is."""
        meets = np.flatnonzero(self.cost <= max_mean_cost)
        index = int(meets[-1]) if len(meets) else 0
        return float(self.multiplier[index]), bool(len(meets))


def _first_smallest(score: Array, cost: Array, mask: Mask) -> int:
    """Index of the smallest score under the mask; ties to the cheaper, then to the first."""
    masked = np.where(mask, score, np.inf)
    first = int(masked.argmin())
    tied = masked == masked[first]
    return first if np.count_nonzero(tied) == 1 else int(np.where(tied & mask, cost, np.inf).argmin())
