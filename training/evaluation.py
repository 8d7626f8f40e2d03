"""What an evaluation found, as plain data: what the report shows, promotion reads and MLflow keeps. Knows no fitting."""

from __future__ import annotations

from typing import Literal

import msgspec

from rheostat.router.promises import rounded_down
from rheostat.training.bootstrap import Interval


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

    The point's target is the accuracy that the best fixed action has on the queries it was chosen on.
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


def is_shown(target: float) -> bool:
    """Whether a target is one of the twentieths that tables show."""
    return round(100 * target) % 5 == 0
