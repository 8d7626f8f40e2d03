"""Policies as cost-accuracy curves, and the numbers they are compared by. Knows nothing of how a policy decides.

Between two settings of a policy lie random mixtures of both, so a curve is worth its upper concave hull. The hull over
settings is taken on the queries the policy is judged on, which flatters every policy alike and a little; the intervals
take the hull anew in each resample.
Sources: Hu et al. 2024 (AIQ); Ong et al. 2024 (APGR).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rheostat.router.base import Array
from rheostat.router.frontier import upper_hull
from rheostat.training.bootstrap import Bootstrap, Interval, interval_of

HULL_DRAWS = 100
NEXT_TO_NOTHING = 1e-6


@dataclass(frozen=True, slots=True)
class Spend:
    """What a policy gave on each query at each of L settings.

    Attributes:
        reward: (n, L) in [0, 1].
        cost: (n, L) in the unit of the backtest.
    """

    reward: Array
    cost: Array


def accuracy_at(cost: Array, accuracy: Array, budget: float) -> float:
    """Accuracy of the best mixture of settings whose mean cost is within the budget; 0 where none is so cheap."""
    hull = upper_hull(cost, accuracy)
    if budget < cost[hull[0]]:
        return 0.0
    return float(np.interp(budget, cost[hull], accuracy[hull]))


def cost_at(cost: Array, accuracy: Array, target: float) -> float:
    """Mean cost of the cheapest mixture of settings that reaches the target; infinite where none does."""
    hull = upper_hull(cost, accuracy)
    if accuracy[hull[-1]] < target - 1e-12:
        return float("inf")
    return float(np.interp(target, accuracy[hull], cost[hull]))


def aiq(cost: Array, accuracy: Array, low: float, high: float) -> float:
    """Mean accuracy over budgets from `low` to `high`: the area under the hull, per unit of cost.

    Where a budget buys no setting of the policy, the line from nothing (no cost, no accuracy) to its cheapest counts.
    """
    hull = upper_hull(np.append(cost, 0.0), np.append(accuracy, 0.0))
    budgets = np.append(cost, 0.0)[hull]
    reached = np.append(accuracy, 0.0)[hull]
    grid = np.unique(np.concatenate([[low, high], budgets[(budgets > low) & (budgets < high)]]))
    return float(np.trapezoid(np.interp(grid, budgets, reached), grid) / (high - low)) if high > low else float(reached[-1])


def cost_interval(spend: Spend, reference: Spend, boot: Bootstrap) -> tuple[float, Interval]:
    """Cost at the reference's accuracy, and the reference's cost over it with a 95% interval.

    Args:
        spend: the policy.
        reference: of one setting; the best fixed action.
        boot: over the same n queries.

    Returns:
        The cost (infinite where the accuracy is out of reach) and the ratio (then 0).
    """
    target, fixed = float(reference.reward.mean()), float(reference.cost.mean())
    own = cost_at(spend.cost.mean(axis=0), spend.reward.mean(axis=0), target)
    free = max(NEXT_TO_NOTHING * fixed, 1e-15)  # what costs nothing at all is so much cheaper
    draws = [boot.means(each)[:HULL_DRAWS] for each in (spend.cost, spend.reward, reference.reward, reference.cost)]
    ratios = [cost[0] / max(cost_at(own_cost, reward, aim[0]), free) for own_cost, reward, aim, cost in zip(*draws, strict=True)]
    return own, interval_of(fixed / max(own, free), np.array(ratios))


def apgr(reward: Array, strong_share: Array, weak: float, strong: float) -> float:
    """Average share of the gap between two arms recovered, over shares of calls to the strong one from 0 to 1.

    Args:
        reward: (L,) mean reward at each setting.
        strong_share: (L,) share of queries that went to the strong arm.
        weak, strong: mean rewards of the two arms.
    """
    order = np.argsort(strong_share, kind="stable")
    x = np.concatenate([[0.0], strong_share[order], [1.0]])
    y = np.concatenate([[weak], reward[order], [strong]])
    return float((np.trapezoid(y, x) - weak) / (strong - weak)) if strong > weak else 0.0
