"""Policies on a held-out table, the honest baselines among them, as curves over a price of accuracy.

Every curve is (n, L): what each query gave at each of L multipliers, so that one bootstrap by query serves them all.
Knows nothing of how predictions were made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.router.frontier import upper_hull
from rheostat.router.rules import choose_along
from rheostat.training.outcomes import Array

# What a right answer is worth, in mean costs of the best fixed action: below 0.5 nobody would run it, above 50 only accuracy counts.
WORTH = np.geomspace(0.5, 50.0, 9)


@dataclass(frozen=True, slots=True)
class Costed:
    """A held-out table with its costs: all (n, a)."""

    reward: Array
    tokens: Array
    cost_usd: Array


@dataclass(frozen=True, slots=True)
class Curve:
    """What a policy gave on each query at each setting.

    Attributes:
        picks: (n, L) actions taken.
        reward, tokens, cost_usd: (n, L).
    """

    picks: npt.NDArray[np.intp]
    reward: Array
    tokens: Array
    cost_usd: Array

    @classmethod
    def of(cls, picks: npt.NDArray[np.intp], truth: Costed) -> Curve:
        """The outcome of (n, L) picks."""
        cells = [np.take_along_axis(values, picks, axis=1) for values in (truth.reward, truth.tokens, truth.cost_usd)]
        return cls(picks, *cells)


def average_rule(p_correct: Array, cost: Array, truth: Costed, multipliers: Array) -> Curve:
    """The `average` rule at every multiplier, on (n, a) predictions."""
    return Curve.of(choose_along(p_correct, cost, multipliers), truth)


def oracle(truth: Costed, multipliers: Array) -> Curve:
    """The best action in hindsight at every multiplier: what a perfect predictor of expected rewards would reach."""
    return average_rule(truth.reward, truth.cost_usd, truth, multipliers)


def fixed(truth: Costed) -> Curve:
    """Every action on all queries; L is the number of actions."""
    n, a = truth.reward.shape
    return Curve.of(np.tile(np.arange(a), (n, 1)), truth)


def best_fixed(truth: Costed) -> int:
    """The most accurate action on average, the cheaper of equals."""
    accuracy, cost = truth.reward.mean(axis=0), truth.cost_usd.mean(axis=0)
    return int(np.lexsort((cost, -np.round(accuracy, 9)))[0])


def scale_usd(truth: Costed) -> float:
    """Mean cost of the best fixed action in USD, which utilities are priced by.

    Raises:
        DatasetError: it costs nothing, so there is nothing to save.
    """
    cost = float(truth.cost_usd[:, best_fixed(truth)].mean())
    if not cost > 0:
        raise DatasetError(
            "the most accurate action costs nothing at these prices: take it, or give its model a price (usd_per_1m_output, or "
            "usd_per_1m_input where the log has no tokens of answers)"
        )
    return cost


def mixture_hull(truth: Costed) -> Array:
    """(m, 3) cost in USD, tokens and accuracy of the vertices that cost-matched random mixtures of fixed actions span."""
    accuracy, cost = truth.reward.mean(axis=0), truth.cost_usd.mean(axis=0)
    hull = upper_hull(cost, accuracy)
    return np.stack([cost[hull], truth.tokens.mean(axis=0)[hull], accuracy[hull]], axis=1)


def policy_utility(p_correct: Array, cost: Array, truth: Costed, *, scale_usd: float) -> Array:
    """(n,) utility of the `average` rule per query: reward - cost / (worth * scale), averaged over `WORTH`.

    It is what the rule maximises, so learners and bundles are compared by it; in units of accuracy.

    Args:
        p_correct: (n, a) predictions.
        cost: (n, a) predicted USD.
        truth: what really came.
        scale_usd: mean cost of the best fixed action, the same for everything that is compared.
    """
    curve = average_rule(p_correct, cost, truth, WORTH * scale_usd)
    return np.asarray((curve.reward - curve.cost_usd / (WORTH * scale_usd)).mean(axis=1))


def fixed_utility(chosen_on: Costed, truth: Costed, *, scale_usd: float) -> Array:
    """(n,) utility of the best fixed action at each worth, chosen on other queries than it is judged on."""
    prices = WORTH * scale_usd
    score = chosen_on.reward.mean(axis=0)[:, None] - chosen_on.cost_usd.mean(axis=0)[:, None] / prices
    picks = np.tile(score.argmax(axis=0), (len(truth.reward), 1))
    curve = Curve.of(picks, truth)
    return np.asarray((curve.reward - curve.cost_usd / prices).mean(axis=1))
