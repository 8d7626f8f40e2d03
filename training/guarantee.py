"""Learn then test: the cheapest policy on a path of multipliers whose accuracy meets a target with chance 1 - delta.

The policies are ordered before the calibration data is seen, dearest first. Each "accuracy < target" is tested at level
delta and the walk ends at the first that is not rejected, so no correction for many tests is due (fixed-sequence
testing). It holds for any finite n when the calibration queries are exchangeable with the traffic and had no part in
fitting the policies. That no policy passes is an answer as well.
Sources: Angelopoulos et al. 2021 (Learn then Test); Bates et al. 2021 (Hoeffding-Bentkus); Maurer and Pontil 2009
(empirical Bernstein); Waudby-Smith and Ramdas 2024 (betting).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.training.outcomes import Array

Bound = Literal["betting", "bernstein"]
MAX_BET = 0.9
_TINY = 1e-12


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What can be promised for one target.

    Attributes:
        index: of the cheapest policy that passed, None where not even the dearest did.
        n: calibration queries.
        accuracy: mean reward, on the calibration queries, of that policy; of the dearest where none passed.
        low: the lower bound of that accuracy at level 1 - delta.
    """

    target: float
    delta: float
    n: int
    index: int | None
    accuracy: float
    low: float

    @property
    def feasible(self) -> bool:
        """Whether a policy passed."""
        return self.index is not None


@dataclass(frozen=True, slots=True)
class Walk:
    """Fixed-sequence tests of many calibration sets at once.

    Attributes:
        index: (s,) cheapest policy that passed, -1 where infeasible.
    """

    index: npt.NDArray[np.intp]

    @property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """(s,) whether a policy passed."""
        return np.asarray(self.index >= 0)


def walk(p_values: Array, delta: float) -> Walk:
    """From the dearest policy (last column) downward, to the first p-value above delta.

    Args:
        p_values: (s, L) of "the accuracy is below the target", policies in order of cost.
        delta: level of the whole walk, in (0, 1).
    """
    rejected = p_values[:, ::-1] <= delta
    passed = np.logical_and.accumulate(rejected, axis=1).sum(axis=1)
    return Walk(np.where(passed > 0, p_values.shape[1] - passed, -1))


def p_values(total: Array, n: Array, target: float, *, binary: bool) -> Array:
    """P-values of "the expected reward is below the target" from sums of rewards in [0, 1].

    Args:
        total: sums of the rewards, any shape.
        n: how many, of a shape that broadcasts.
        target: in (0, 1).
        binary: whether every reward is 0 or 1, which allows the exact binomial test; else Hoeffding-Bentkus.
    """
    return _binomial(total, n, target) if binary else _hoeffding_bentkus(total, n, target)


def _binomial(total: Array, n: Array, target: float) -> Array:
    from scipy.stats import binom

    return np.asarray(binom.sf(np.rint(total) - 1, n, target))


def _hoeffding_bentkus(total: Array, n: Array, target: float) -> Array:
    """In the losses 1 - reward: exp(-n h(min(risk, alpha), alpha)) and e P(Bin(n, alpha) <= ceil(n risk)), the smaller."""
    from scipy.special import rel_entr
    from scipy.stats import binom

    alpha = 1.0 - target
    loss = np.maximum(n - total, 0.0)
    risk = np.minimum(loss / n, alpha)
    hoeffding = np.exp(-n * (rel_entr(risk, alpha) + rel_entr(1 - risk, 1 - alpha)))
    # Sums of fractions end a rounding error above a whole number, which must not cost a whole loss.
    bentkus = math.e * binom.cdf(np.ceil(loss - 1e-9), n, alpha)
    return np.asarray(np.minimum(np.minimum(hoeffding, bentkus), 1.0))


def certify(rewards: Array, *, target: float, delta: float = 0.1) -> Certificate:
    """The cheapest policy that meets the target with chance 1 - delta, from full information.

    Args:
        rewards: (n, L) reward in [0, 1] that policy l gave on calibration query i, policies in order of cost.
        target: expected reward to promise, in (0, 1).
        delta: chance allowed of promising too much, in (0, 1).

    Raises:
        DatasetError: no queries, a reward outside [0, 1], or a target or delta outside (0, 1).
    """
    _check(rewards, target, delta)
    if rewards.min() < 0 or rewards.max() > 1:
        raise DatasetError(f"rewards range from {rewards.min():g} to {rewards.max():g}: scale them into [0, 1]")
    n, binary = len(rewards), is_binary(rewards)
    total = rewards.sum(axis=0)

    def tested(level: float, columns: slice | list[int]) -> Array:
        return p_values(total[columns], np.array(n), level, binary=binary)

    return _certificate(tested, rewards.mean(axis=0), n, target, delta)


def certify_weighted(values: Array, *, upper: Array, target: float, delta: float = 0.1, bound: Bound = "betting") -> Certificate:
    """The same from a log of another policy, whose rewards are weighted by how much more likely the policy takes the action.

    Args:
        values: (n, L) importance weight times reward, at least 0, of policy l on logged query i in the order of arrival.
        upper: (L,) the largest value that could have occurred: the largest possible weight, from the logging policy's
            smallest propensity and not from the sample.
        target: expected reward to promise, in (0, 1).
        delta: chance allowed of promising too much.
        bound: `betting` (tighter) or `bernstein`.

    Raises:
        DatasetError: no queries, a value outside [0, upper], or a target or delta outside (0, 1).
    """
    _check(values, target, delta)
    if (values < 0).any() or (values > upper * (1 + 1e-9)).any():
        raise DatasetError("a weighted reward lies outside [0, upper]: upper must hold for every action the logging policy may take")
    test = {"betting": betting_p_value, "bernstein": bernstein_p_value}[bound]

    def tested(level: float, columns: slice | list[int]) -> Array:
        pairs = zip(values[:, columns].T, np.atleast_1d(upper[columns]), strict=True)
        return np.array([test(np.asarray(column / top), level / top, delta) for column, top in pairs])

    return _certificate(tested, values.mean(axis=0), len(values), target, delta)


def certify_segments(rewards: Array, segments: Sequence[str], *, target: float, delta: float = 0.1) -> dict[str, Certificate]:
    """One certificate for each segment (tier, task type); each promise holds by itself with chance 1 - delta.

    A segment with too few queries to prove the target even if all were right comes out infeasible.

    Args:
        rewards: (n, L) as for `certify`.
        segments: n names.
        target: for every segment.
        delta: for every segment.

    Raises:
        DatasetError: as `certify`.
    """
    names = np.array(segments)
    return {str(name): certify(rewards[names == name], target=target, delta=delta) for name in sorted(set(segments))}


def betting_p_value(values: Array, mean: float, delta: float) -> float:
    """P-value of "the expectation is at most `mean`" from the largest wealth of a gambler who bets against it.

    The wealth is the product of 1 + bet_t (value_t - mean), each bet chosen from earlier values alone, so that under the
    hypothesis it is a supermartingale and exceeds 1/p with chance at most p, at any time (Ville).

    Args:
        values: (n,) in [0, 1], in the order of arrival.
        mean: the hypothesis, in (0, 1).
        delta: the level at which the test will be read; it sets the size of the bets.
    """
    steps = np.arange(1, len(values) + 1)
    average = (0.5 + np.cumsum(values)) / (steps + 1)
    variance = (0.25 + np.cumsum((values - average) ** 2)) / (steps + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bets = np.minimum(np.sqrt(2 * math.log(1 / delta) / (before * len(values))), MAX_BET / mean)
    wealth = np.cumsum(np.log1p(bets * (values - mean)))
    return float(np.exp(-max(wealth.max(), 0.0)))


def bernstein_p_value(values: Array, mean: float, delta: float = 0.1) -> float:
    """P-value of "the expectation is at most `mean`": the level at which the empirical Bernstein bound reaches it.

    Args:
        values: (n,) in [0, 1].
        mean: the hypothesis.
        delta: not needed; the signature is that of `betting_p_value`.
    """
    del delta
    n = len(values)
    gap = float(values.mean()) - mean
    if gap <= 0 or n < 2:
        return 1.0
    # gap = sqrt(2 V x / n) + 7 x / (3 (n - 1)) with x = log(1 / p) is a quadratic in sqrt(x).
    linear, square = math.sqrt(2 * float(values.var(ddof=1)) / n), 7 / (3 * (n - 1))
    root = (math.sqrt(linear**2 + 4 * square * gap) - linear) / (2 * square)
    return min(1.0, 2.0 * math.exp(-(root**2)))


def is_binary(rewards: Array) -> bool:
    """Whether every reward is 0 or 1."""
    return bool(((rewards == 0) | (rewards == 1)).all())


def _certificate(tested: Callable[[float, slice | list[int]], Array], means: Array, n: int, target: float, delta: float) -> Certificate:
    index = int(walk(tested(target, slice(None))[None, :], delta).index[0])
    shown = index if index >= 0 else len(means) - 1
    low = _largest_level(lambda level: float(tested(level, [shown])[0]) <= delta)
    return Certificate(target=target, delta=delta, n=n, index=index if index >= 0 else None, accuracy=float(means[shown]), low=low)


def _largest_level(passes: Callable[[float], bool]) -> float:
    """The largest target in (0, 1) that passes, by bisection; 0 where none does."""
    low, high = 0.0, 1.0 - _TINY
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def _check(values: Array, target: float, delta: float) -> None:
    if not len(values):
        raise DatasetError("no calibration queries: a target cannot be tested on nothing")
    if not np.isfinite(values).all():
        raise DatasetError("a reward of the calibration queries is not a finite number: drop the query")
    bad: Mapping[str, float] = {name: x for name, x in (("target", target), ("delta", delta)) if not 0 < x < 1}
    for name, x in bad.items():
        raise DatasetError(f"{name} is {x:g}: it must lie between 0 and 1, ends excluded")
