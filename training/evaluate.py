"""Judging a router on held-out queries against honest baselines, with bootstrap intervals by query.

The multiplier for a target is the one the calibration queries gave; the best fixed action is chosen there too. Next to
it stands the multiplier that promises the target, and what its confidence cost. The
verdict is `route` only when the router's utility beats, with 95% confidence, both the best fixed action's and that of
the same router fitted on shuffled labels, which knows what things cost but not what they achieve.
Source of the intervals: Efron 1979 (percentile bootstrap).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from rheostat.data.ledger import Price
from rheostat.router.base import Encoder
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import calibration_error, reliability
from rheostat.router.features import feature_rows
from rheostat.router.paths import Paths
from rheostat.router.predictor import PriceVector
from rheostat.router.promises import PromisedPath, rounded_down
from rheostat.router.rules import MultiplierPath
from rheostat.training import baselines
from rheostat.training.baselines import Costed, Curve
from rheostat.training.outcomes import Array, OutcomeTable

RESAMPLES = 400
CONFIDENCE = 0.9  # of the promises that are shown where none is named
TARGETS = tuple(round(float(target), 3) for target in np.arange(0.30, 0.991, 0.01))


class Interval(msgspec.Struct, frozen=True):
    """An estimate with its 95% interval."""

    value: float
    low: float
    high: float


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A policy at one setting: accuracy with its interval, mean cost and tokens a query, share of each action taken."""

    name: str
    accuracy: Interval
    cost_usd: float
    tokens: float
    mix: dict[str, float]
    multiplier_usd: float | None = None
    target: float | None = None
    feasible: bool = True


class FamilyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One data set: the best fixed action and the router at the operating point."""

    dataset: str
    n: int
    fixed_accuracy: float
    fixed_tokens: float
    router_accuracy: float
    router_tokens: float
    favourite: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The router at the best fixed action's accuracy, the multiplier being chosen on the calibration queries.

    Ratios are best fixed over router, so more is better; those `on_curve` pick the multiplier on the test queries
    themselves and is a little optimistic (0 where the curve never gets there).
    """

    point: Point
    accuracy_difference: Interval
    cost_ratio: Interval
    token_ratio: Interval
    cost_ratio_on_curve: Interval
    token_ratio_on_curve: Interval


class SequentialPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The sequential policy at one price of accuracy: mean cost a query and accuracy with its interval."""

    multiplier_usd: float
    cost_usd: float
    accuracy: Interval


class SequentialReport(msgspec.Struct, frozen=True, kw_only=True):
    """The sequential policy on the test queries, next to the prompt-only router, and whether it is used and why.

    `actions` are those it may run; `gain_over_router` is in utility, None where no policy was fitted.
    """

    actions: list[str]
    used: bool
    reason: str
    points: list[SequentialPoint] = []
    gain_over_router: Interval | None = None


class PromisedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One target with a confidence: whether it can be promised, and the policy that promises it, or the most where none does.

    Attributes:
        low: what the policy promises.
        point: what it gave on the test queries.
        cost_ratio: its mean cost there over that of the multiplier that only estimates.
        needed: about how many fresh queries the promise would take; None where it holds, and where no number will do.
    """

    target: float
    holds: bool
    low: float
    point: Point
    cost_ratio: float
    needed: int | None = None


class PromiseReport(msgspec.Struct, frozen=True, kw_only=True):
    """What can be promised with a confidence on `n` fresh queries, at most `attainable`, and each of `TARGETS`."""

    confidence: float
    n: int
    attainable: float
    points: list[PromisedPoint]

    def __str__(self) -> str:
        """The report in a sentence, with what the next twentieth above it would take."""
        most = rounded_down(self.attainable)
        said = f"With {self.confidence:.0%} confidence {self.n} fresh queries promise an accuracy of {most} at most"
        beyond = next((point for point in self.points if not point.holds and is_shown(point.target)), None)
        if beyond is None:
            return f"{said}."
        needed = "is out of reach of these actions" if beyond.needed is None else f"needs about {beyond.needed:,} of them"
        return f"{said}; {beyond.target:.2f} {needed}."


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the report and the promotion need, as plain data."""

    bundle: str
    actions: list[str]
    learner: str
    candidates: dict[str, Interval]
    seed: int
    n_train: int
    n_calibration: int
    n_test: int
    fixed: list[Point]
    best_fixed: str
    router: list[Point]
    targets: list[Point]
    mixture: list[tuple[float, float, float]]
    oracle: list[Point]
    shuffled: list[Point]
    at_best_fixed: Comparison
    utility_gain: Interval
    gain_over_shuffled: Interval
    verdict: Literal["route", "do not route"]
    reason: str
    families: list[FamilyRow]
    reliability: list[dict[str, float]]
    calibration_error: float
    utility_scale_usd: float
    utility_router: list[float]
    utility_best_fixed: list[float]
    sequential: SequentialReport | None = None
    promises: PromiseReport | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers worth a line in a tracking server."""
        there = self.at_best_fixed
        best = next(point for point in self.fixed if point.name == self.best_fixed)
        return {
            "best_fixed_accuracy": best.accuracy.value,
            "best_fixed_tokens": best.tokens,
            "accuracy_at_best_fixed": there.point.accuracy.value,
            "accuracy_difference": there.accuracy_difference.value,
            "tokens_at_best_fixed": there.point.tokens,
            "token_ratio": there.token_ratio.value,
            "cost_ratio": there.cost_ratio.value,
            "cost_ratio_on_curve": there.cost_ratio_on_curve.value,
            "utility_gain": self.utility_gain.value,
            "utility_gain_low": self.utility_gain.low,
            "gain_over_shuffled_low": self.gain_over_shuffled.low,
            "calibration_error": self.calibration_error,
            "n_test": float(self.n_test),
            **self._sequential_metrics,
            **self._promise_metrics,
        }

    @property
    def _promise_metrics(self) -> dict[str, float]:
        promises = self.promises
        return {} if promises is None else {"promised_accuracy": promises.attainable, "n_fresh": float(promises.n)}

    @property
    def _sequential_metrics(self) -> dict[str, float]:
        gain = self.sequential.gain_over_router if self.sequential else None
        return {} if gain is None else {"sequential_gain": gain.value, "sequential_gain_low": gain.low}


@dataclass(frozen=True, slots=True)
class Judged:
    """A router's predictions on a part of the table next to the truth; all (n, a)."""

    p_correct: Array
    cost_usd: Array
    truth: Costed


@dataclass(frozen=True, slots=True)
class Facts:
    """What the evaluation is told about the fit, and the confidence of the promises that it shows."""

    version: str
    learner: str
    candidates: dict[str, Interval]
    seed: int
    n_train: int
    confidence: float = CONFIDENCE


class Bootstrap:
    """Resamples of n queries, drawn once, so that differences are paired."""

    def __init__(self, n: int, *, seed: int = 0, resamples: int = RESAMPLES) -> None:
        rng = np.random.default_rng(seed)
        self._weight = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples) / n

    def means(self, values: Array) -> Array:
        """(resamples, L) means of (n, L) values."""
        return np.asarray(self._weight @ values)

    def interval(self, values: Array) -> Interval:
        """Mean of (n,) values with its percentile interval."""
        return interval_of(float(values.mean()), self._weight @ values)


def interval_of(value: float, draws: Array) -> Interval:
    """A value with the 2.5% and 97.5% quantiles of its bootstrap draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def price_vector(bundle: Bundle, prices: Mapping[str, Price]) -> PriceVector:
    """Prices of a bundle's actions, in its order."""
    priced = [prices.get(action.model, Price()) for action in bundle.actions]
    return PriceVector.of([price.usd_per_1m_output for price in priced], [price.usd_per_1m_input for price in priced])


def lengths(texts: Sequence[str]) -> Array:
    """(n,) characters of each text."""
    return np.array([len(text) for text in texts], dtype=np.float64)


def costed(table: OutcomeTable, prices: Mapping[str, Price]) -> Costed:
    """A complete table with its costs."""
    return Costed(table.reward, table.tokens, table.cost_usd(prices))


def kept_queries(bundle: Bundle, prices: Mapping[str, Price]) -> Costed:
    """The queries that a bundle keeps, at today's prices."""
    held = bundle.held_out
    return Costed(held.reward, held.tokens, held.cost_usd(price_vector(bundle, prices)))


def judge(bundle: Bundle, table: OutcomeTable, prices: Mapping[str, Price], *, encoder: Encoder | None = None) -> Judged:
    """A bundle's predictions on the queries of a table, whose actions must be the bundle's.

    Args:
        bundle: what predicts.
        table: queries with the true outcomes.
        prices: by model.
        encoder: the bundle's encoder where it is loaded already.

    Raises:
        DatasetError: the table lacks one of the bundle's actions.
    """
    table = table.only([str(action) for action in bundle.actions])
    encoder = bundle.encoder if encoder is None else encoder
    features = feature_rows(encoder.encode(list(table.texts)), table.texts)
    cost = bundle.predictor.costs.cost_usd(features, lengths(table.texts), price_vector(bundle, prices))
    return Judged(bundle.predictor.p_correct(features), cost, costed(table, prices))


def evaluate(test: OutcomeTable, *, judged: Judged, kept: Costed, paths: Paths, shuffled: Judged, facts: Facts) -> Evaluation:
    """The full evaluation on the test queries.

    Args:
        test: held-out queries with full information.
        judged: the router on them.
        kept: the queries that the router keeps, where the best fixed action is chosen.
        paths: of the same queries, where multipliers are chosen.
        shuffled: a router fitted on shuffled labels, on the test queries: a control that must gain nothing.
        facts: about the fit.
    """
    truth, boot, names = judged.truth, Bootstrap(len(test), seed=facts.seed), list(test.actions)
    path, best = paths.of(paths.every), baselines.best_fixed(kept)
    utilities = _utilities(judged, kept, shuffled, best)
    gain = boot.interval(utilities.router - utilities.best_fixed)
    over_shuffled = boot.interval(utilities.router - utilities.shuffled)
    router = _along(judged, truth, path)
    along = points(router, names, boot, multipliers=path.multiplier)
    index, feasible = path.index_for(float(kept.reward[:, best].mean()))
    comparison = compare(router, index, truth, best, boot, point=msgspec.structs.replace(along[index], feasible=feasible))
    route = gain.low > 0 and over_shuffled.low > 0
    everything = np.ones_like(truth.reward)
    return Evaluation(
        bundle=facts.version,
        actions=names,
        learner=facts.learner,
        candidates=facts.candidates,
        seed=facts.seed,
        n_train=facts.n_train,
        n_calibration=len(kept.reward),
        n_test=len(test),
        fixed=points(baselines.fixed(truth), names, boot, labels=names),
        best_fixed=names[best],
        router=along,
        targets=target_points(along, path),
        promises=promise_report(along, path, paths.promised(paths.every, facts.confidence)),
        mixture=[(float(cost), float(tokens), float(accuracy)) for cost, tokens, accuracy in baselines.mixture_hull(truth)],
        oracle=points(baselines.oracle(truth, path.multiplier), names, boot, multipliers=path.multiplier),
        shuffled=points(_along(shuffled, truth, path), names, boot, multipliers=path.multiplier),
        at_best_fixed=comparison,
        utility_gain=gain,
        gain_over_shuffled=over_shuffled,
        verdict="route" if route else "do not route",
        reason=_reason(route, gain, over_shuffled, comparison, names[best], float(truth.reward[:, best].mean()), len(test)),
        families=_families(test, router, index, best, names),
        reliability=reliability(judged.p_correct, truth.reward, everything),
        calibration_error=calibration_error(judged.p_correct, truth.reward, everything),
        utility_scale_usd=utilities.scale_usd,
        utility_router=utilities.router.tolist(),
        utility_best_fixed=utilities.best_fixed.tolist(),
    )


class _Utilities(NamedTuple):
    """Per-query utilities on the test queries, each (n,), and the scale they share."""

    router: Array
    shuffled: Array
    best_fixed: Array
    scale_usd: float


def _utilities(judged: Judged, kept: Costed, shuffled: Judged, best: int) -> _Utilities:
    scale = float(kept.cost_usd[:, best].mean())
    router, control = (
        baselines.policy_utility(each.p_correct, each.cost_usd, judged.truth, scale_usd=scale) for each in (judged, shuffled)
    )
    return _Utilities(router, control, baselines.fixed_utility(kept, judged.truth, scale_usd=scale), scale)


def _along(judged: Judged, truth: Costed, path: MultiplierPath) -> Curve:
    return baselines.average_rule(judged.p_correct, judged.cost_usd, truth, path.multiplier)


def points(
    curve: Curve, names: list[str], boot: Bootstrap, *, labels: list[str] | None = None, multipliers: Array | None = None
) -> list[Point]:
    """A curve's settings as points."""
    draws = boot.means(curve.reward)
    return [
        Point(
            name=labels[index] if labels else "router",
            accuracy=interval_of(float(curve.reward[:, index].mean()), draws[:, index]),
            cost_usd=float(curve.cost_usd[:, index].mean()),
            tokens=float(curve.tokens[:, index].mean()),
            mix=_mix(curve, index, names),
            multiplier_usd=None if multipliers is None else float(multipliers[index]),
        )
        for index in range(curve.reward.shape[1])
    ]


def target_points(along: list[Point], path: MultiplierPath) -> list[Point]:
    """What the router does when asked for each of `TARGETS`; `along` are its points on the path."""
    found = [(target, *path.index_for(target)) for target in TARGETS]
    return [msgspec.structs.replace(along[index], target=target, feasible=feasible) for target, index, feasible in found]


def promise_report(along: list[Point], path: MultiplierPath, promised: PromisedPath) -> PromiseReport:
    """What can be promised of each of `TARGETS`; `along` are the router's points on the test queries, along both paths."""
    points = []
    for target in TARGETS:
        index, holds = promised.index_for(target)
        estimated = along[path.index_for(target)[0]]
        points.append(
            PromisedPoint(
                target=target,
                holds=holds,
                low=float(promised.low[index]),
                point=msgspec.structs.replace(along[index], target=target, feasible=holds),
                cost_ratio=along[index].cost_usd / max(estimated.cost_usd, 1e-15),
                needed=None if holds else promised.needed(target),
            )
        )
    return PromiseReport(confidence=promised.confidence, n=promised.n, attainable=promised.attainable, points=points)


def is_shown(target: float) -> bool:
    """Whether a target is one of the twentieths that tables show."""
    return round(100 * target) % 5 == 0


def compare(router: Curve, index: int, truth: Costed, best: int, boot: Bootstrap, *, point: Point) -> Comparison:
    """The router at one place of its path, and the point it is there, against the best fixed action."""
    return Comparison(
        point=point,
        accuracy_difference=boot.interval(router.reward[:, index] - truth.reward[:, best]),
        cost_ratio=_ratio(truth.cost_usd[:, best], router.cost_usd[:, index], boot),
        token_ratio=_ratio(truth.tokens[:, best], router.tokens[:, index], boot),
        cost_ratio_on_curve=_ratio_on_curve(router.reward, router.cost_usd, truth.reward[:, best], truth.cost_usd[:, best], boot),
        token_ratio_on_curve=_ratio_on_curve(router.reward, router.tokens, truth.reward[:, best], truth.tokens[:, best], boot),
    )


def _ratio(above: Array, below: Array, boot: Bootstrap) -> Interval:
    draws = boot.means(above[:, None])[:, 0] / np.maximum(boot.means(below[:, None])[:, 0], 1e-15)
    return interval_of(float(above.mean() / max(below.mean(), 1e-15)), draws)


def _ratio_on_curve(reward: Array, spent: Array, fixed_reward: Array, fixed_spent: Array, boot: Bootstrap) -> Interval:
    """What the best fixed action spends over the least spent on the curve with at least its accuracy; 0 where there is none."""

    def ratio(accuracy: Array, mean: Array, target: Array, fixed_mean: Array) -> Array:
        least = np.where(accuracy >= target - 1e-12, mean, np.inf).min(axis=-1)
        return np.asarray(fixed_mean / np.maximum(least, 1e-15))

    draws = ratio(boot.means(reward), boot.means(spent), boot.means(fixed_reward[:, None]), boot.means(fixed_spent[:, None])[:, 0])
    value = ratio(reward.mean(0), spent.mean(0), fixed_reward.mean(), fixed_spent.mean())
    return interval_of(float(value), draws)


def _mix(curve: Curve, index: int, names: list[str]) -> dict[str, float]:
    share = np.bincount(curve.picks[:, index], minlength=len(names)) / len(curve.picks)
    return {names[action]: float(share[action]) for action in np.flatnonzero(share)}


def _families(test: OutcomeTable, router: Curve, index: int, best: int, names: list[str]) -> list[FamilyRow]:
    datasets = np.array(test.datasets)
    rows = []
    for dataset in sorted(set(test.datasets)):
        inside = datasets == dataset
        picks = np.bincount(router.picks[inside, index], minlength=len(names))
        rows.append(
            FamilyRow(
                dataset=dataset,
                n=int(inside.sum()),
                fixed_accuracy=float(test.reward[inside, best].mean()),
                fixed_tokens=float(test.tokens[inside, best].mean()),
                router_accuracy=float(router.reward[inside, index].mean()),
                router_tokens=float(router.tokens[inside, index].mean()),
                favourite=names[int(picks.argmax())],
            )
        )
    return rows


def _reason(route: bool, gain: Interval, control: Interval, comparison: Comparison, best: str, accuracy: float, n_test: int) -> str:
    point, difference, ratio = comparison.point, comparison.accuracy_difference, comparison.token_ratio
    low, high = 100 * difference.low, 100 * difference.high
    numbers = (
        f"On {n_test} held-out queries the best fixed action, {best}, is right {accuracy:.1%} of the time. Asked for that "
        f"accuracy, the router is right {point.accuracy.value:.1%} of the time (difference {100 * difference.value:+.1f} points, "
        f"95% interval {low:+.1f} to {high:+.1f}) with {1 / ratio.value:.0%} of the tokens."
    )
    weaker, baseline = (gain, "the best fixed action") if gain.low <= control.low else (control, "the shuffled-label control")
    bound = f"the utility gain over {baseline} is {weaker.value:+.4f} (95% interval {weaker.low:+.4f} to {weaker.high:+.4f})"
    verdict = f"Routing pays: {bound}." if route else f"Do not route: {bound}, so it is not shown to be above zero."
    saves = not route or comparison.cost_ratio.low > 1
    return f"{verdict} {numbers}" if saves else f"{verdict} {numbers} So it pays at smaller budgets; at that accuracy no saving is shown."
