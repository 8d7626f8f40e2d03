"""Which actions are worth considering: those no other action beats at equal or lower cost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array

Indices = npt.NDArray[np.intp]


def frontier(p_correct: Array, cost: Array, admissible: npt.NDArray[np.bool_] | None = None) -> Indices:
    """Undominated actions, cheapest first; of equals the first in the catalogue.

    Args:
        p_correct: (a,) chance of a correct answer.
        cost: (a,) in any unit.
        admissible: (a,) which actions may be taken; all when None.
    """
    candidates = np.arange(len(cost)) if admissible is None else np.flatnonzero(admissible)
    # Stable: of equals the first stays first.
    order = candidates[np.lexsort((-p_correct[candidates], cost[candidates]))]
    best = np.maximum.accumulate(p_correct[order])
    return np.concatenate([order[:1], order[1:][best[1:] > best[:-1]]])


def upper_hull(cost: Array, accuracy: Array) -> Indices:
    """Vertices of the upper concave hull of (cost, accuracy), cheapest first, up to the highest accuracy.

    Points on it are what a random mixture of two actions reaches at best.
    """
    hull: list[int] = []
    for point in frontier(accuracy, cost):
        while len(hull) > 1 and _is_below(cost, accuracy, hull[-2], hull[-1], int(point)):
            hull.pop()
        hull.append(int(point))
    return np.array(hull, dtype=np.intp)


def _is_below(cost: Array, accuracy: Array, left: int, middle: int, right: int) -> bool:
    rise = (accuracy[right] - accuracy[left]) * (cost[middle] - cost[left])
    return bool((accuracy[middle] - accuracy[left]) * (cost[right] - cost[left]) <= rise)
