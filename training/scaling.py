"""How accuracy grows along one axis of compute: a saturating law, and the knee behind which more buys little.

The law is p(x) = start + gain (1 - exp(-(x - x0) / scale)), x0 the smallest size. Its knee is where nine tenths of the
gain are reached. A knee is told only where the largest size is clearly better than the smallest.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from rheostat.router.base import Array
from rheostat.training.bootstrap import Bootstrap, Interval, interval_of

Verdict = Literal["pays", "no clear gain", "hurts"]

REACHED = 0.9
MIN_POINTS = 3
SCALES = 60
NARROWEST, WIDEST = 1 / 20, 5.0  # scales tried, in spans of the axis


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the law; `knee` is in the unit of the axis."""

    start: float
    gain: float
    scale: float
    knee: float


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What an axis is worth: the largest size against the smallest, the law, and the knee with its interval.

    `law` is None on fewer than three sizes; `knee` where more does not clearly pay. A knee beyond the largest size means
    that the axis was still paying there.
    """

    gain: Interval
    verdict: Verdict
    law: Law | None
    knee: Interval | None


class _Fits(NamedTuple):
    """Least-squares laws of several curves, each (c,)."""

    start: Array
    gain: Array
    scale: Array


def growth(sizes: Array, reward: Array, *, seed: int = 0) -> Growth:
    """What more compute on an axis gives.

    Args:
        sizes: (m,) ascending, at least two.
        reward: (n, m) in [0, 1], the same queries at each size.
        seed: of the resamples of queries.
    """
    boot = Bootstrap(len(reward), seed=seed)
    gain = boot.sure_interval(reward[:, -1] - reward[:, 0])
    verdict: Verdict = "pays" if gain.low > 0 else "hurts" if gain.high < 0 else "no clear gain"
    if len(sizes) < MIN_POINTS:
        return Growth(gain=gain, verdict=verdict, law=None, knee=None)
    fits = _fit(sizes, reward.mean(axis=0)[None])
    knee = float(_knees(sizes, fits)[0])
    law = Law(start=float(fits.start[0]), gain=float(fits.gain[0]), scale=float(fits.scale[0]), knee=knee)
    told = interval_of(knee, _knees(sizes, _fit(sizes, boot.means(reward)))) if verdict == "pays" else None
    return Growth(gain=gain, verdict=verdict, law=law, knee=told)


def _knees(sizes: Array, fits: _Fits) -> Array:
    """(c,) where nine tenths of the gain are reached."""
    return np.asarray(sizes[0] - fits.scale * math.log(1 - REACHED))


def _fit(sizes: Array, curves: Array) -> _Fits:
    """The best law for each of (c, m) curves: linear least squares at every scale of a grid."""
    span = float(sizes[-1] - sizes[0])
    scales = np.geomspace(span * NARROWEST, span * WIDEST, SCALES)
    bases = [np.stack([np.ones_like(sizes), -np.expm1(-(sizes - sizes[0]) / scale)], axis=1) for scale in scales]
    solved = np.stack([np.linalg.lstsq(base, curves.T, rcond=None)[0] for base in bases])  # (s, 2, c)
    missed = np.stack([((base @ found - curves.T) ** 2).sum(axis=0) for base, found in zip(bases, solved, strict=True)])
    best = missed.argmin(axis=0)
    each = np.arange(len(curves))
    return _Fits(solved[best, 0, each], solved[best, 1, each], scales[best])
