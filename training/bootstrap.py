"""Bootstrap intervals by query. Sources: Efron 1979 (percentile); Rubin 1981 (Bayesian); Gaffke 2005 (with what was never seen)."""

from __future__ import annotations

from functools import cached_property

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
    """Resamples of n queries, drawn once, so that differences are paired."""

    def __init__(self, n: int, *, seed: int = 0, resamples: int = RESAMPLES) -> None:
        rng = np.random.default_rng(seed)
        self._weight = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples) / n
        self._rng = rng

    def means(self, values: Array) -> Array:
        """(resamples, L) means of (n, L) values."""
        return np.asarray(self._weight @ values)

    def interval(self, values: Array) -> Interval:
        """Mean of (n,) values with its percentile interval."""
        return interval_of(float(values.mean()), self._weight @ values)

    def shares(self, rewards: Array) -> list[Interval]:
        """Means of (n, L) rewards in [0, 1] with percentile intervals, which are no points where all are right or all wrong.

        The share of all queries of which none of n may show has the exact bound 1 - TAIL^(1/n); all of it may be otherwise.
        """
        unseen = 1.0 - TAIL ** (1.0 / len(rewards))
        found = map(interval_of, rewards.mean(axis=0), self.means(rewards).T)
        return [
            Interval(p, min(low, p * (1 - unseen)), min(max(high, p + (1 - p) * unseen), 1.0))
            for p, low, high in ((each.value, each.low, each.high) for each in found)
        ]

    def sure_interval(self, values: Array) -> Interval:
        """Mean of (n,) differences of rewards or utilities, with an interval for verdicts: it holds also on few or skewed ones.

        A policy that is a little cheaper everywhere and loses a whole reward now and then looks better than it is while
        few losses were seen; percentiles then err two or three times as often as they say. So either end is that of all
        queries and one more, on which as much is lost or won as may be. Where no query differs that is the exact bound of
        Clopper and Pearson (1934); Learned-Miller and Thomas (2020) found none that it does not hold for.
        """
        worst, best = min(-1.0, float(values.min())), max(1.0, float(values.max()))
        low = np.quantile(self._with_another @ np.append(values, worst), TAIL)
        high = np.quantile(self._with_another @ np.append(values, best), 1 - TAIL)
        return Interval(float(values.mean()), float(low), float(high))

    @cached_property
    def _with_another(self) -> Array:
        """(resamples, n + 1) shares of the queries and of one that was not seen."""
        resamples, n = self._weight.shape
        return self._rng.dirichlet(np.ones(n + 1), size=resamples)


def interval_of(value: float, draws: Array) -> Interval:
    """A value with the 2.5% and 97.5% quantiles of its bootstrap draws."""
    low, high = np.quantile(draws, [TAIL, 1 - TAIL])
    return Interval(float(value), float(low), float(high))
