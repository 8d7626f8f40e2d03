"""Which rule decides on a query: the cheapest where nothing fits, the guard far from training, then what was asked for.

Knows one action a query; several on one query are `several`.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from rheostat.router import rules
from rheostat.router.guard import Guard
from rheostat.router.paths import Paths
from rheostat.router.rules import Mask
from rheostat.router.situation import Situation

FORCED, GUARD, CHEAPEST, PER_QUERY = "forced", "guard", "cheapest", "per_query"
AVERAGE, BUDGET, SEQUENTIAL = "average", "budget", "sequential"
CONGESTED, DEADLINE, OUT_OF_DISTRIBUTION = "congested", "deadline", "out_of_distribution"


class Ruling(msgspec.Struct, frozen=True):
    """What a rule said: the action, whether it meets the target, by which rule and multiplier, and the fallen-back-to reason.

    With a confidence asked for, `promised` says whether the target holds with it, and nothing less is feasible.
    """

    action: int
    feasible: bool
    rule: str
    multiplier: float | None = None
    degraded: str | None = None
    promised: bool = False


class Aim(NamedTuple):
    """The multiplier that a query is decided with, and whether it meets the target on average over the traffic."""

    multiplier: float
    attainable: bool


class SingleAction:
    """Rules on one action for a query.

    Args:
        guard: of the bundle.
        paths: of the bundle's held-out queries.
    """

    def __init__(self, guard: Guard, paths: Paths) -> None:
        self._guard = guard
        self._paths = paths

    def rule(self, situation: Situation) -> Ruling:
        """The ruling of the first rule that is due."""
        if not np.count_nonzero(situation.admissible):
            return _cheapest(situation)
        if self._guard.is_far(situation.embedding):
            return self._guarded(situation)
        if situation.constraints.high_stakes:
            return _per_query(situation)
        return self._on_average(situation)

    def _guarded(self, situation: Situation) -> Ruling:
        action, promised = self._safest(situation, situation.admissible), False
        if situation.confidence is not None:
            promised = self._aim(situation).attainable and action == self._safest(situation, situation.allowed)
        feasible = promised or situation.confidence is None
        return Ruling(action, feasible, GUARD, degraded=OUT_OF_DISTRIBUTION, promised=promised)

    def _safest(self, situation: Situation, among: Mask) -> int:
        """The guard's own action, or the one most likely right where that is not among those to choose from."""
        prediction, action = situation.prediction, self._guard.action
        return action if among[action] else rules.most_accurate(prediction.p_correct, prediction.cost_usd, among)

    def _on_average(self, situation: Situation) -> Ruling:
        prediction = situation.prediction
        multiplier, attainable = self._aim(situation)
        action = rules.average(prediction.p_correct, situation.weighed, situation.admissible, multiplier=multiplier)
        free = action if situation.is_unhindered else _unhindered(situation, multiplier)
        confident = situation.confidence is not None
        rule = AVERAGE if situation.paced is None else BUDGET
        if action == free:
            return Ruling(action, attainable, rule, multiplier, promised=attainable and confident)
        # A cap or a load that changes the choice breaks what holds on the mean, unless this query meets the target by itself.
        # That rests on its prediction alone, which no promise does.
        alone = not confident and bool(prediction.p_correct[action] >= situation.target)
        degraded = _why_late(situation, free) or _why_congested(situation, action, multiplier)
        return Ruling(action, attainable and alone, rule, multiplier, degraded)

    def _aim(self, situation: Situation) -> Aim:
        if situation.paced is not None:
            return Aim(situation.paced, attainable=True)
        if situation.confidence is None:
            return Aim(*self._paths.of(situation.allowed).for_target(situation.target))
        multiplier, holds = self._paths.promised(situation.allowed, situation.confidence).for_target(situation.target)
        if holds:
            return Aim(multiplier, attainable=True)
        # On few queries the cheapest policies promise as much as any: what is not promised costs no less than the estimate.
        estimated, _ = self._paths.of(situation.allowed).for_target(situation.target)
        return Aim(max(multiplier, estimated), attainable=False)


def _unhindered(situation: Situation, multiplier: float) -> int:
    """What the rule would pick without the request's limits, at the real prices."""
    prediction = situation.prediction
    return rules.average(prediction.p_correct, prediction.cost_usd, situation.allowed, multiplier=multiplier)


def _cheapest(situation: Situation) -> Ruling:
    action = rules.average(situation.prediction.p_correct, situation.weighed, situation.allowed, multiplier=0.0)
    return Ruling(action, feasible=False, rule=CHEAPEST, degraded=_why_late(situation, action))


def _per_query(situation: Situation) -> Ruling:
    action, meets = rules.per_query(situation.prediction.p_low, situation.weighed, situation.admissible, target=situation.target)
    return Ruling(action, meets and situation.confidence is None, PER_QUERY)  # a bound on one query is no promise on the mean


def _why_late(situation: Situation, action: int) -> str | None:
    """`deadline` where the action would be too late, and None where something else is in its way."""
    return DEADLINE if situation.is_late(action) else None


def _why_congested(situation: Situation, action: int, multiplier: float) -> str | None:
    """`congested` where the same rule would pick another action at the real prices."""
    prediction = situation.prediction
    calm = rules.average(prediction.p_correct, prediction.cost_usd, situation.admissible, multiplier=multiplier)
    return CONGESTED if calm != action else None
