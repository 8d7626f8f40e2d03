"""Judging a router on held-out queries against honest baselines, with bootstrap intervals by query.

The multiplier for a target is the one the calibration queries gave; the best fixed action is chosen there too. Next to
it stands the multiplier that promises the target, and what its confidence cost. The verdict is `route` only when the
router's utility beats, with 95% confidence, both the best fixed action's and that of the same router fitted on shuffled
labels, which knows what things cost but not what they achieve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from rheostat.router.calibration import calibration_error, reliability
from rheostat.router.paths import Paths
from rheostat.router.promises import PromisedPath
from rheostat.router.rules import MultiplierPath
from rheostat.training import baselines
from rheostat.training.baselines import Costed, Curve
from rheostat.training.bootstrap import Bootstrap, Interval, interval_of
from rheostat.training.evaluation import Comparison, Evaluation, FamilyRow, Point, PromisedPoint, PromiseReport
from rheostat.training.judged import Judged
from rheostat.training.outcomes import Array, OutcomeTable

CONFIDENCE = 0.9  # of the promises that are shown where none is named
TARGETS = tuple(round(float(target), 3) for target in np.arange(0.30, 0.991, 0.01))


@dataclass(frozen=True, slots=True)
class Facts:
    """What the evaluation is told about the fit, and the confidence of the promises that it shows."""

    version: str
    learner: str
    candidates: dict[str, Interval]
    seed: int
    n_train: int
    confidence: float = CONFIDENCE


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
    utilities = _utilities(judged, kept, shuffled)
    gain = boot.sure_interval(utilities.router - utilities.best_fixed)
    over_shuffled = boot.sure_interval(utilities.router - utilities.shuffled)
    router = _along(judged, truth, path)
    along = points(router, names, boot, multipliers=path.multiplier)
    asked = float(kept.reward[:, best].mean())
    index, feasible = path.index_for(asked)
    there = msgspec.structs.replace(along[index], target=asked, feasible=feasible)
    comparison = compare(router, index, truth, best, boot, point=there)
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
        reason=_reason(route, gain, over_shuffled, comparison, names[best], truth.reward[:, best], len(kept.reward)),
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


def _utilities(judged: Judged, kept: Costed, shuffled: Judged) -> _Utilities:
    scale = baselines.scale_usd(kept)
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
    return [
        Point(
            name=labels[index] if labels else "router",
            accuracy=accuracy,
            cost_usd=float(curve.cost_usd[:, index].mean()),
            tokens=float(curve.tokens[:, index].mean()),
            mix=_mix(curve, index, names),
            multiplier_usd=None if multipliers is None else float(multipliers[index]),
        )
        for index, accuracy in enumerate(boot.shares(curve.reward))
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


def _reason(route: bool, gain: Interval, control: Interval, comparison: Comparison, best: str, reward: Array, n_kept: int) -> str:
    """What stands behind the verdict, without the verdict; `reward` is (n,), the best fixed action's on the test queries."""
    said = f"{_bound(route, gain, control)} {_numbers(comparison, best, reward, n_kept)}"
    return said if not route or comparison.cost_ratio.low > 1 else f"{said} At that target no saving of cost is shown."


def _bound(route: bool, gain: Interval, control: Interval) -> str:
    """Why the verdict is what it is: the weaker of the two gains."""
    weaker, baseline = (gain, "the best fixed action") if gain.low <= control.low else (control, "the shuffled-label control")
    bound = f"the utility gain over {baseline} is {weaker.value:+.4f} (95% interval {weaker.low:+.4f} to {weaker.high:+.4f})"
    return f"{bound}." if route else f"{bound}, so it is not shown to be above zero."


def _numbers(comparison: Comparison, best: str, reward: Array, n_kept: int) -> str:
    """The router asked for the best fixed action's accuracy, next to that action."""
    point = comparison.point
    return (
        f"On {len(reward)} held-out queries the best fixed action, {best}, is right {reward.mean():.1%} of the time; it was chosen "
        f"on {n_kept} other queries, where it was right {point.target:.1%} of the time, so that another may be better here. Asked "
        f"for {point.target:.1%}, the router is right {point.accuracy.value:.1%} of the time, {_beside(comparison.accuracy_difference)}, "
        f"with {_spent(comparison)}."
    )


def _beside(difference: Interval) -> str:
    """How much more or less accurate than that action."""
    value, low, high = (100 * each for each in (difference.value, difference.low, difference.high))
    points = f"{abs(value):.1f} points {'less' if value < 0 else 'more'} than"
    return f"{'as often as' if abs(value) < 0.05 else points} that action (95% interval {low:+.1f} to {high:+.1f})"


def _spent(comparison: Comparison) -> str:
    """What the router spends of what the best fixed action does: tokens, where the log has any, and money where that differs."""
    tokens, cost = (f"{1 / max(ratio.value, 1e-15):.0%}" for ratio in (comparison.token_ratio, comparison.cost_ratio))
    if comparison.token_ratio.value <= 0:
        return f"{cost} of the cost"
    return f"{tokens} of the tokens" + ("" if cost == tokens else f" and {cost} of the cost")
