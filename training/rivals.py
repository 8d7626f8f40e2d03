"""The policies a router has to beat: fixed actions and their mixtures, data-set means, the two-model threshold, hindsight.

Each is fitted on training queries and gives what it spends on the test queries at every setting.
Sources: the threshold router as in Ong et al. 2024 (RouteLLM); mixtures as in Hu et al. 2024 (RouterBench).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array
from rheostat.router.frontier import upper_hull
from rheostat.router.rules import choose_along, multiplier_grid
from rheostat.training import baselines
from rheostat.training.baselines import Costed
from rheostat.training.curves import Spend

CHEAP = 0.5
QUANTILES = 101
PRIOR_SEGMENT = 5.0

Picks = npt.NDArray[np.intp]


def priced(p_correct: Array, cost: Array, truth: Costed) -> Spend:
    """The `average` rule along its multipliers.

    Args:
        p_correct: (n, a) predictions.
        cost: (n, a) expected cost.
        truth: what came.
    """
    return spend(choose_along(p_correct, cost, multiplier_grid(cost)), truth)


def fixed_hull(train: Costed, truth: Costed) -> Spend:
    """The fixed actions whose mixtures no other action beats on the training queries."""
    hull = upper_hull(train.cost_usd.mean(axis=0), train.reward.mean(axis=0))
    return spend(np.tile(hull, (len(truth.reward), 1)), truth)


def segment_means(train: Costed, train_names: npt.NDArray[np.str_], truth: Costed, names: npt.NDArray[np.str_]) -> Spend:
    """The `average` rule on each data set's own means. It is told every query's data set, which a router is not."""
    codes = {name: code for code, name in enumerate(np.unique(np.concatenate([train_names, names])))}
    member = np.eye(len(codes))[[codes[name] for name in train_names]]
    size = member.sum(axis=0)[:, None] + PRIOR_SEGMENT
    rows = [codes[name] for name in names]
    means = [(member.T @ values + PRIOR_SEGMENT * values.mean(axis=0)) / size for values in (train.reward, train.cost_usd)]
    return priced(means[0][rows], means[1][rows], truth)


def threshold(p_correct: Array, train: Costed, truth: Costed) -> Spend:
    """Two actions, and a threshold on the predicted gain of the strong one.

    Strong is the best fixed action; weak the most accurate of those that cost at most half as much, or the cheapest.
    """
    strong, weak = pair(train)
    gain = p_correct[:, strong] - p_correct[:, weak]
    cuts = np.append(np.quantile(gain, np.linspace(0, 1, QUANTILES)), np.inf)
    return spend(np.where(gain[:, None] >= cuts, strong, weak), truth)


def pair(train: Costed) -> tuple[int, int]:
    """The strong and the weak action of the threshold router."""
    strong = baselines.best_fixed(train)
    cost, accuracy = train.cost_usd.mean(axis=0), train.reward.mean(axis=0)
    cheap = cost <= CHEAP * cost[strong]
    weak = np.where(cheap, accuracy, -np.inf).argmax() if cheap.any() else cost.argmin()
    return strong, int(weak)


def oracle(truth: Costed) -> Spend:
    """The best action in hindsight at every multiplier."""
    return priced(truth.reward, truth.cost_usd, truth)


def spend(picks: Picks, truth: Costed) -> Spend:
    """What (n, L) picks gave."""
    return Spend(np.take_along_axis(truth.reward, picks, axis=1), np.take_along_axis(truth.cost_usd, picks, axis=1))
