"""Bootstrap intervals by query. Sources: Efron 1979 (percentile bootstrap); Clopper and Pearson 1934 (what was never seen)."""

from __future__ import annotations

import msgspec
import numpy as np

from rheostat.router.base import Array

RESAMPLES = 400
TAIL = 0.025


class Interval(msgspec.Struct, frozen=True):
    """An estimate with its 95% interval."""

    value: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        """Like `+0.050 (+0.010 to +0.090)`, every number in the form of a float, such as `+.3f`."""
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})" if form else str(self)


class Bootstrap:
    """Resamples of n queries, drawn once, so that differences are paired.

    Attributes:
        unseen: the largest share of all queries that none of n may show.
    """

    def __init__(self, n: int, *, seed: int = 0, resamples: int = RESAMPLES) -> None:
        rng = np.random.default_rng(seed)
        self.unseen = 1.0 - TAIL ** (1.0 / n)
        self._weight = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples) / n

    def means(self, values: Array) -> Array:
        """(resamples, L) means of (n, L) values."""
        return np.asarray(self._weight @ values)

    def interval(self, values: Array) -> Interval:
        """Mean of (n,) values with its percentile interval."""
        return interval_of(float(values.mean()), self._weight @ values)

    def sure_interval(self, values: Array) -> Interval:
        """`interval` of (n,) differences of rewards or utilities, no narrower than n queries allow: for verdicts.

        Where policies agree on all n the bootstrap has no width, however few they are; on the unseen share of all
        queries each may still lose a whole reward.
        """
        found = self.interval(values)
        return Interval(found.value, min(found.low, found.value - self.unseen), max(found.high, found.value + self.unseen))


def interval_of(value: float, draws: Array) -> Interval:
    """A value with the 2.5% and 97.5% quantiles of its bootstrap draws."""
    low, high = np.quantile(draws, [TAIL, 1 - TAIL])
    return Interval(float(value), float(low), float(high))
