"""Which actions are worth considering: those no other action beats at equal or lower cost."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array

Indices = npt.NDArray[np.intp]


def frontier(p_correct: Array, cost: Array, admissible: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Positions of undominated actions, cheapest first; of equals the first in the catalogue.

    Args:
        p_correct: (a,) chance of a correct answer.
        cost: (a,) in any unit.
        admissible: (a,) which actions may be taken; all when None.
    """
    # Cheapest first, then the most accurate, then the first. A loop over a catalogue is over before numpy has begun.
    order = np.lexsort((-p_correct, cost)).tolist()
    chance, may = p_correct.tolist(), None if admissible is None else admissible.tolist()
    edge: list[int] = []
    best = -math.inf
    for index in order:
        if chance[index] > best and (may is None or may[index]):
            best = chance[index]
            edge.append(index)
    return edge


def upper_hull(cost: Array, accuracy: Array) -> Indices:
    """Vertices of the upper concave hull of (cost, accuracy), cheapest first, up to the highest accuracy.

    Points on it are what a random mixture of two actions reaches at best.
    """
    hull: list[int] = []
    for point in frontier(accuracy, cost):
        while len(hull) > 1 and _is_below(cost, accuracy, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return np.array(hull, dtype=np.intp)


def _is_below(cost: Array, accuracy: Array, left: int, middle: int, right: int) -> bool:
    rise = (accuracy[right] - accuracy[left]) * (cost[middle] - cost[left])
    return bool((accuracy[middle] - accuracy[left]) * (cost[right] - cost[left]) <= rise)
