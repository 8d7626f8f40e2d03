"""Logged exploration: with chance epsilon, one of the actions near the frontier, each with a known propensity.

The propensity is that of the whole randomisation, so that off-policy estimates are unbiased. Ties before it are broken
deterministically (see `rules`).
"""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array
from rheostat.router.frontier import frontier

NEAR = 0.05


def propensities(chosen: int, p_correct: Array, cost: Array, admissible: npt.NDArray[np.bool_], epsilon: float) -> Array:
    """(a,) chance of each action: 1 - epsilon for the chosen one, epsilon shared evenly by all near-frontier ones.

    An action is near the frontier when its P(correct) is within `NEAR` of the best one that costs no more. Inadmissible
    actions get 0; the chances sum to 1.
    """
    share = np.zeros(len(cost))
    share[chosen] = 1.0
    if epsilon <= 0:
        return share
    candidates = near_frontier(p_correct, cost, admissible)
    candidates[chosen] = True
    share[chosen] = 1.0 - epsilon
    return np.asarray(share + epsilon * candidates / candidates.sum())


def near_frontier(p_correct: Array, cost: Array, admissible: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(a,) which admissible actions lie within `NEAR` of the frontier at their own cost."""
    edge = np.array(frontier(p_correct, cost, admissible), dtype=np.intp)
    if not len(edge):
        return admissible.copy()
    reach = edge[np.searchsorted(cost[edge], cost, side="right") - 1]
    return np.asarray(admissible & (p_correct >= p_correct[reach] - NEAR))


def draw(chances: Array, rng: random.Random) -> int:
    """An action drawn with these chances."""
    edges = np.cumsum(chances)
    return int(min(np.searchsorted(edges, rng.random() * edges[-1], side="right"), len(chances) - 1))
