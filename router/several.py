"""When several actions on one query are the better use of the same money, and what they are then expected to give."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.router.courses import Course, Expected, Left, Plan
from rheostat.router.paths import Paths
from rheostat.router.ruling import AVERAGE, BUDGET, SEQUENTIAL, Ruling
from rheostat.router.situation import Situation


class HeldOutMean(NamedTuple):
    """What several actions gave on held-out queries, a query."""

    p_correct: float
    cost_usd: float


class SeveralActions:
    """Rules on several actions for a query.

    Args:
        plan: of the bundle, fitted for the prices of today.
        paths: of the bundle's held-out queries, one action each.
        caps: (a,) the actions' caps in generated tokens.
    """

    def __init__(self, plan: Plan, paths: Paths, caps: npt.NDArray[np.int64]) -> None:
        self._plan = plan
        self._paths = paths
        self._caps = caps

    def instead_of(self, single: Ruling, situation: Situation) -> Ruling:
        """Several actions where they are expected to be the better use of the same money, else the ruling on a single one."""
        if single.rule not in (AVERAGE, BUDGET) or not situation.allowed[list(self._plan.arms)].all():
            return single
        # Promises are tested on one action a query.
        if situation.confidence is not None:
            return single
        if single.rule == AVERAGE and not self._pay(situation):
            return single
        limits = situation.constraints
        left = Left(limits.max_tokens_total, limits.max_cost_usd, limits.deadline_s)
        first = self.course(situation).turn(left).action
        return single if first is None else Ruling(first, feasible=True, rule=SEQUENTIAL, multiplier=self._worth(situation))

    def course(self, situation: Situation) -> Course:
        """The course that a query sets out on."""
        prediction = situation.prediction
        expected = Expected(
            p_correct=prediction.p_correct,
            cost=situation.weighed,
            cost_usd=prediction.cost_usd,
            tokens=self._caps,
            seconds=situation.seconds_p95,
            allowed=situation.allowed,
        )
        return Course(self._plan, expected, multiplier=self._worth(situation))

    def at(self, multiplier: float) -> HeldOutMean:
        """What they gave at a multiplier, in USD per unit of accuracy."""
        path = self._plan.path
        index = min(int(np.searchsorted(path.multiplier, multiplier)), len(path.multiplier) - 1)
        return HeldOutMean(float(path.accuracy[index]), float(path.cost[index]))

    def _pay(self, situation: Situation) -> bool:
        """Whether several actions reached the target on held-out queries, and for less than one each."""
        together, alone = self._plan.path, self._paths.of(situation.allowed)
        several, reached = together.index_for(situation.target)
        one, reached_alone = alone.index_for(situation.target)
        return reached and not (reached_alone and alone.cost[one] <= together.cost[several])

    def _worth(self, situation: Situation) -> float:
        return self._plan.path.for_target(situation.target)[0] if situation.paced is None else situation.paced
