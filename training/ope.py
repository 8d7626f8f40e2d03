"""Off-policy evaluation: what a policy would have earned, from the log of another.

    w_i = p_eval(a_i | x_i) / propensity_i        q(x, a) a model of the reward, fitted on other rows (cross-fitting)

Every estimator but SNIPS is a mean of one term a row. Nothing is estimated where the effective sample size is too small:
the answer is then why not, without a number. Knows nothing of bundles or stores.
Sources: Horvitz and Thompson 1952 (IPS); Swaminathan and Joachims 2015 (SNIPS); Dudik et al. 2011 (DR); Wang et al. 2017
(SWITCH); Chernozhukov et al. 2018 (cross-fitting); Maurer and Pontil 2009 (empirical Bernstein); Kong 1992 (ESS).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.training.bootstrap import Bootstrap, interval_of
from rheostat.training.outcomes import Array

MIN_ESS = 50.0
CLIP = 10.0
SWITCH = 10.0
ALPHA = 0.05


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A value in reward units with its 95% bootstrap interval by query.

    `bernstein` is the empirical Bernstein interval: it holds for every n when the weights cannot exceed those assumed,
    and is wider; None for estimators that are no mean of bounded terms, or that weights so large can bias.
    """

    value: float
    low: float
    high: float
    bernstein: tuple[float, float] | None = None


class Diagnostics(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the log can speak about the policy at all.

    Attributes:
        n: rows; n_queries: different queries.
        ess: effective sample size, (sum w)^2 / sum w^2.
        overlap: mean weight, which is 1 in expectation where the logging policy may take every action the evaluated one
            may, and less by the share of its choices that were never tried; with interval.
        unmatched: share of rows of weight 0.
        max_weight: the largest weight seen.
        top_share: share of the total weight that the heaviest 1% of the rows carry.
    """

    n: int
    n_queries: int
    ess: float
    overlap: float
    overlap_interval: tuple[float, float]
    unmatched: float
    max_weight: float
    top_share: float


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """Estimates by name, or none and the reason in `refused`."""

    estimates: dict[str, Estimate]
    diagnostics: Diagnostics
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedBandit:
    """Rows of a log and what the evaluated policy would do there. Checked when made.

    Attributes:
        action: (n,) index of the action taken.
        reward: (n,) in [0, 1].
        propensity: (n,) its probability when it was taken, in (0, 1].
        p_eval: (n, a) probabilities of the evaluated policy; rows sum to 1.
        query: (n,) number of the query; rows of one query are resampled together.

    Raises:
        DatasetError: says which row and column do not fit, and why.
    """

    action: npt.NDArray[np.intp]
    reward: Array
    propensity: Array
    p_eval: Array
    query: npt.NDArray[np.intp]

    def __post_init__(self) -> None:
        n = len(self.action)
        if n == 0:
            raise DatasetError("no logged rows: a policy cannot be evaluated on nothing")
        lengths = {name: len(getattr(self, name)) for name in ("reward", "propensity", "p_eval", "query")}
        for name, length in lengths.items():
            if length != n:
                raise DatasetError(f"{name} has {length} rows, action has {n}: give one of each a row")
        _check_rows("reward", self.reward, (self.reward >= 0) & (self.reward <= 1), "must be in [0, 1]")
        _check_rows("propensity", self.propensity, (self.propensity > 0) & (self.propensity <= 1), "must be in (0, 1]")
        known = (self.action >= 0) & (self.action < self.p_eval.shape[1])
        _check_rows("action", self.action, known, f"must be the index of one of {self.p_eval.shape[1]} actions")
        fits = (self.p_eval >= 0).all(axis=1) & (np.abs(self.p_eval.sum(axis=1) - 1) < 1e-6)
        _check_rows("p_eval", self.p_eval.sum(axis=1), fits, "the probabilities of a row must be at least 0 and sum to 1")

    def __len__(self) -> int:
        return len(self.action)

    @property
    def weight(self) -> Array:
        """(n,) importance weights."""
        return np.asarray(self.p_eval[np.arange(len(self)), self.action] / self.propensity)


def evaluate_policy(
    log: LoggedBandit, q: Array, *, min_ess: float = MIN_ESS, clip: float = CLIP, switch: float = SWITCH, seed: int = 0
) -> Evaluated:
    """All estimators on one log.

    Args:
        log: what happened and what the policy would do.
        q: (n, a) modelled rewards in [0, 1], each row's from a model that did not see the row.
        min_ess: below this effective sample size nothing is estimated.
        clip: where the weights of clipped IPS are cut.
        switch: SWITCH-DR trusts the model alone where weights exceed this.
        seed: of the bootstrap.
    """
    if q.shape != log.p_eval.shape:
        raise DatasetError(f"the reward model gives {q.shape}, the policy {log.p_eval.shape}: one value for every row and action")
    bootstrap = _QueryBootstrap(log.query, seed)
    found = diagnostics(log, bootstrap)
    if found.ess < min_ess:
        return Evaluated(estimates={}, diagnostics=found, refused=_refusal(found, min_ess))
    top = float((log.p_eval / log.propensity.min()).max())
    terms: dict[str, tuple[Array, tuple[float, float] | None]] = {
        "dm": (dm(log, q), None),
        "ips": (ips(log), (0.0, top)),
        "clipped_ips": (clipped_ips(log, clip), (0.0, top) if top <= clip else None),
        "dr": (dr(log, q), (-top, 1.0 + top)),
        "switch_dr": (switch_dr(log, q, switch), (-top, 1.0 + top) if top <= switch else None),
    }
    estimates = {name: bootstrap.mean(values, bounds) for name, (values, bounds) in terms.items()}
    estimates["snips"] = bootstrap.ratio(log.weight * log.reward, log.weight)
    return Evaluated(estimates=estimates, diagnostics=found)


def dm(log: LoggedBandit, q: Array) -> Array:
    """(n,) sum_a p_eval(a) q(a), the direct method: no variance from weights, all the bias of the model.

    Its interval is that of the queries drawn and knows nothing of that bias.
    """
    return np.asarray((log.p_eval * q).sum(axis=1))


def ips(log: LoggedBandit) -> Array:
    """(n,) w r: unbiased, of large variance where weights are."""
    return np.asarray(log.weight * log.reward)


def clipped_ips(log: LoggedBandit, clip: float) -> Array:
    """(n,) min(w, clip) r: biased downward, of bounded variance."""
    return np.asarray(np.minimum(log.weight, clip) * log.reward)


def dr(log: LoggedBandit, q: Array) -> Array:
    """(n,) sum_a p_eval(a) q(a) + w (r - q(a_i)): unbiased, of less variance than IPS the better the model is."""
    return dm(log, q) + log.weight * _residual(log, q)


def switch_dr(log: LoggedBandit, q: Array, switch: float) -> Array:
    """(n,) DR whose correction is left out where w > switch: a little of the model's bias for bounded terms."""
    return dm(log, q) + np.where(log.weight <= switch, log.weight, 0.0) * _residual(log, q)


def bernstein_interval(values: Array, low: float, high: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Two-sided empirical Bernstein interval of the mean of independent values in [low, high], at level 1 - alpha."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return low, high
    scale = math.log(4 / alpha)
    half = math.sqrt(2 * float(values.var(ddof=1)) * scale / n) + 7 * (high - low) * scale / (3 * (n - 1))
    return mean - half, mean + half


def diagnostics(log: LoggedBandit, bootstrap: _QueryBootstrap | None = None) -> Diagnostics:
    """Weights at a glance."""
    bootstrap = bootstrap or _QueryBootstrap(log.query, 0)
    weight = log.weight
    overlap = bootstrap.mean(weight, None)
    heavy = np.sort(weight)[::-1][: max(1, len(weight) // 100)]
    total, squares = float(weight.sum()), float((weight**2).sum())
    return Diagnostics(
        n=len(log),
        n_queries=bootstrap.n,
        ess=total**2 / squares if squares else 0.0,
        overlap=overlap.value,
        overlap_interval=(overlap.low, overlap.high),
        unmatched=float((weight == 0).mean()),
        max_weight=float(weight.max()),
        top_share=float(heavy.sum()) / total if total else 0.0,
    )


class _QueryBootstrap:
    """Resamples queries; a mean over rows is a ratio of sums over queries, so both are resampled together."""

    def __init__(self, query: npt.NDArray[np.intp], seed: int) -> None:
        self._query = np.unique(query, return_inverse=True)[1].reshape(-1)
        self._rows = np.bincount(self._query).astype(np.float64)
        self.n = len(self._rows)
        self._draws = Bootstrap(self.n, seed=seed)

    def mean(self, values: Array, bounds: tuple[float, float] | None) -> Estimate:
        """The mean of (n,) terms that lie within the bounds."""
        plain = self.ratio(values, np.ones_like(values))
        if bounds is None:
            return plain
        # Queries count by their rows, so that the mean of what is bounded here is the mean over rows.
        share, (low, high) = self._rows / self._rows.mean(), bounds
        ends = [bound * each for bound in (low, high) for each in (share.min(), share.max())]
        interval = bernstein_interval(self._total(values) / self._rows.mean(), float(min(ends)), float(max(ends)))
        return msgspec.structs.replace(plain, bernstein=interval)

    def ratio(self, above: Array, below: Array) -> Estimate:
        """The ratio of two sums over rows."""
        draws = self._draws.means(self._total(above)) / np.maximum(self._draws.means(self._total(below)), 1e-12)
        found = interval_of(float(above.sum() / max(float(below.sum()), 1e-12)), draws)
        return Estimate(value=found.value, low=found.low, high=found.high)

    def _total(self, values: Array) -> Array:
        return np.bincount(self._query, weights=values).astype(np.float64)


def _residual(log: LoggedBandit, q: Array) -> Array:
    return np.asarray(log.reward - q[np.arange(len(log)), log.action])


def _refusal(found: Diagnostics, min_ess: float) -> str:
    return (
        f"the {found.n} rows are worth {found.ess:.1f} of the policy's own, {min_ess:g} are needed: log more, with more exploration, or "
        f"evaluate a policy closer to the one that logged ({found.unmatched:.0%} of its rows took an action this policy would not)"
    )


def _check_rows(column: str, values: npt.NDArray[np.number], fits: npt.NDArray[np.bool_], demand: str) -> None:
    if not fits.all():
        row = int(np.argmin(fits))
        raise DatasetError(f"row {row}: {column} is {values[row]:g}, {demand}: correct or drop the row")


ESTIMATORS: Mapping[str, str] = {
    "dm": "direct method, as good as its model",
    "ips": "importance sampling",
    "snips": "self-normalised",
    "clipped_ips": "clipped weights, too low where they are larger",
    "dr": "doubly robust",
    "switch_dr": "switching",
}
