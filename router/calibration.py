"""Calibrators as plain arrays, so that a bundle needs no pickle: Platt's sigmoid, isotonic knots, and error bands.

Rewards may be fractions (expected rewards from replay). Knows nothing of actions beyond their column.
Sources: Platt 1999; Zadrozny and Elkan 2002 (isotonic).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rheostat.router.base import Array, FeatureRow

Floats = TypeVar("Floats", Array, FeatureRow)
P_MIN = 1e-4
_BAND_BINS = 12
_Z_95 = 1.959963984540054


def clamp(values: Floats, low: float, high: float | Floats) -> Floats:
    """Values within [low, high]. A quarter of the time np.clip takes on the small arrays of one decision."""
    limited: Floats = np.minimum(np.maximum(values, low), high)
    return limited


def sigmoid(logit: Array) -> Array:
    """1 / (1 + exp(-logit)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logit)))


def logit(p: Array) -> Array:
    """log(p / (1 - p)) of probabilities clipped into [P_MIN, 1 - P_MIN]."""
    clipped = clamp(p, P_MIN, 1 - P_MIN)
    return np.asarray(np.log(clipped / (1 - clipped)))


@dataclass(frozen=True, slots=True)
class Platt:
    """p = sigmoid(slope * logit + intercept) by action; both are (n_actions,)."""

    slope: Array
    intercept: Array

    def __call__(self, logits: Array) -> Array:
        """(n, n_actions) probabilities of (n, n_actions) logits."""
        return sigmoid(logits * self.slope + self.intercept)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A non-decreasing map of probabilities, shared by all actions, as knots `x` -> `y` with straight lines between."""

    x: Array
    y: Array

    def __call__(self, logits: Array) -> Array:
        """(n, n_actions) probabilities of (n, n_actions) logits."""
        return np.asarray(np.interp(sigmoid(logits), self.x, self.y))


Calibrator = Platt | Isotonic


@dataclass(frozen=True, slots=True)
class ErrorBand:
    """How far the mean reward of queries predicted near `center` may lie below and above the prediction.

    A bound on the mean of such queries, not on one query, whose reward is 0 or 1.
    """

    center: Array
    below: Array
    above: Array

    def low(self, p: Array) -> Array:
        """Lower 95% bound of the mean reward at predictions p."""
        return clamp(p - np.interp(p, self.center, self.below), 0.0, 1.0)

    def high(self, p: Array) -> Array:
        """Upper 95% bound of the mean reward at predictions p."""
        return clamp(p + np.interp(p, self.center, self.above), 0.0, 1.0)


def fit_platt(logits: Array, reward: Array, weight: Array, *, ridge: float = 20.0, steps: int = 25) -> Platt:
    """Platt's sigmoid per action by Newton's method, pulled to the identity where an action has few or uniform labels.

    Args:
        logits: (n, a) raw logits.
        reward: (n, a) in [0, 1].
        weight: (n, a), 0 where not observed.
        ridge: strength of the pull, in observations.
        steps: of Newton; each is a 2 x 2 solve.
    """
    slope, intercept = np.ones(logits.shape[1]), np.zeros(logits.shape[1])
    for _ in range(steps):
        p = sigmoid(logits * slope + intercept)
        residual, curvature = weight * (p - reward), weight * p * (1 - p)
        g_slope = (residual * logits).sum(0) + ridge * (slope - 1)
        g_intercept = residual.sum(0) + 0.2 * ridge * intercept
        h_ss = (curvature * logits**2).sum(0) + ridge
        h_si = (curvature * logits).sum(0)
        h_ii = curvature.sum(0) + 0.2 * ridge
        determinant = h_ss * h_ii - h_si**2
        slope = slope - np.clip((h_ii * g_slope - h_si * g_intercept) / determinant, -1, 1)
        intercept = intercept - np.clip((h_ss * g_intercept - h_si * g_slope) / determinant, -1, 1)
    # A calibrator may flatten an ordering that carries nothing, never turn it round.
    return Platt(np.maximum(slope, 0.0), intercept)


def fit_isotonic(logits: Array, reward: Array, weight: Array) -> Isotonic:
    """Isotonic knots over all actions together by pooling adjacent violators."""
    observed = weight > 0
    p, r, w = sigmoid(logits[observed]), reward[observed], weight[observed]
    order = np.argsort(p, kind="stable")
    level, mass = pool_adjacent_violators(r[order], w[order])
    ends = np.cumsum(mass) - 1
    starts = np.concatenate([[0], ends[:-1] + 1])
    x = np.stack([p[order][starts], p[order][ends]], axis=1).ravel()
    knots, last = np.unique(x, return_index=True)
    return Isotonic(knots, np.repeat(level, 2)[last])


def pool_adjacent_violators(values: Array, weights: Array) -> tuple[Array, Array]:
    """Levels and lengths of the non-decreasing step function nearest to `values` in weighted squares."""
    levels: list[float] = []
    masses: list[float] = []
    lengths: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        levels.append(value)
        masses.append(weight)
        lengths.append(1)
        while len(levels) > 1 and levels[-2] >= levels[-1]:
            mass = masses[-2] + masses[-1]
            levels[-2:] = [(levels[-2] * masses[-2] + levels[-1] * masses[-1]) / mass]
            masses[-2:] = [mass]
            lengths[-2:] = [lengths[-2] + lengths[-1]]
    return np.array(levels), np.array(lengths)


def fit_band(p: Array, reward: Array, weight: Array) -> ErrorBand:
    """Error bands from bins of equal mass: the bin's bias, if it hurts, plus 1.96 standard errors.

    The error counts queries, not cells: the cells of one query rise and fall together.
    """
    n_queries = max(int((weight > 0).any(axis=1).sum()), 1)
    cells_per_query = max(float((weight > 0).sum()) / n_queries, 1.0)
    observed = weight > 0
    order = np.argsort(p[observed], kind="stable")
    centers, below, above = [], [], []
    for part in np.array_split(order, min(_BAND_BINS, len(order))):
        predicted, seen = p[observed][part], reward[observed][part]
        bias = float(seen.mean() - predicted.mean())
        spread = max(float(seen.var()), 0.25 / max(len(part), 1))
        error = _Z_95 * float(np.sqrt(spread / max(len(part) / cells_per_query, 1.0)))
        centers.append(float(predicted.mean()))
        below.append(max(-bias, 0.0) + error)
        above.append(max(bias, 0.0) + error)
    centers_array, first = np.unique(centers, return_index=True)
    return ErrorBand(centers_array, np.array(below)[first], np.array(above)[first])


def reliability(p: Array, reward: Array, weight: Array, *, bins: int = 10) -> list[dict[str, float]]:
    """Points of a reliability plot over all observed cells: mean prediction, mean reward and count of each bin."""
    observed = weight > 0
    index = np.minimum((p[observed] * bins).astype(int), bins - 1)
    points = []
    for bin_number in np.unique(index):
        inside = index == bin_number
        predicted, seen = float(p[observed][inside].mean()), float(reward[observed][inside].mean())
        points.append({"predicted": predicted, "observed": seen, "n": float(inside.sum())})
    return points


def calibration_error(p: Array, reward: Array, weight: Array) -> float:
    """Expected calibration error over ten bins, in reward units."""
    points = reliability(p, reward, weight)
    total = sum(point["n"] for point in points)
    return sum(point["n"] * abs(point["predicted"] - point["observed"]) for point in points) / max(total, 1.0)
