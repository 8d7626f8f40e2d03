"""Pacing: a multiplier that follows the realised spend, so that a stream of queries costs what was budgeted.

Dual ascent on the price of accuracy: a query that cost less than its share raises the multiplier, one that cost more
lowers it. What was saved or overspent so far is spread over a horizon and added to every share, so that an error in the
past is made good and does not just stop. It is bounded: what months of cheap queries left is not spent in a day. Knows spend
and budget, nothing of actions.
Source: Balseiro and Gur 2019 (adaptive pacing).
"""

from __future__ import annotations

import math

from rheostat.data.errors import ConfigError

MAX_STEP = 0.5


class Pacer:
    """Follows one budget.

    Args:
        budget: cost a query may have on average, above 0, in any unit.
        multiplier: where to start, in cost units per unit of accuracy, within the range.
        low, high: range of the multiplier, above 0; take the ends of the `multiplier_grid`.
        rate: change of the logarithm of the multiplier when a query costs nothing or twice its share.
        horizon: queries over which savings and debts are spread, and whose budgets both come to at most.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(self, budget: float, *, multiplier: float, low: float, high: float, rate: float = 0.02, horizon: float = 500.0) -> None:
        if not (budget > 0 and 0 < low <= multiplier <= high and 0 < rate < 1 and horizon >= 1):
            raise ConfigError(
                f"pacing cannot follow budget {budget:g} with multiplier {multiplier:g} in [{low:g}, {high:g}], rate {rate:g}, horizon "
                f"{horizon:g}: budget and range must be above 0, the multiplier inside, the rate in (0, 1), the horizon at least 1"
            )
        self.budget = budget
        self.rate = rate
        self.horizon = horizon
        self._log = math.log(multiplier)
        self._range = math.log(low), math.log(high)
        self._saved = 0.0

    @property
    def multiplier(self) -> float:
        """What the next query should be decided with."""
        return math.exp(self._log)

    @property
    def saved(self) -> float:
        """Budget not spent so far that still may be, in cost units; negative where too much was spent."""
        return self._saved

    def spent(self, cost: float) -> None:
        """Note what a query cost.

        One very dear query moves the multiplier by no more than a few steps; what it cost is not forgotten, though, and is
        paid back over the horizon, up to all of its budgets.
        """
        share = self.budget + self._saved / self.horizon
        step = self.rate * (share - cost) / self.budget
        self._log = min(max(self._log + min(max(step, -MAX_STEP), MAX_STEP), self._range[0]), self._range[1])
        most = self.budget * self.horizon
        self._saved = min(max(self._saved + self.budget - cost, -most), most)
