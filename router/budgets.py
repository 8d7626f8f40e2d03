"""Budgets by tier: what requests of a tier may cost on average, and the multiplier that keeps them to it.

Each tier with a budget has a pacer, started where the held-out queries say that the budget is spent, and moved by what
requests really cost. It outlives the bundle it began with: the price of accuracy is in dollars whoever predicts it.
"""

from __future__ import annotations

from collections.abc import Mapping

from rheostat.router.pacing import Pacer
from rheostat.router.rules import MultiplierPath


class Budgets:
    """The pacers of some tiers.

    Args:
        usd: mean cost of a request, by tier, above 0. A tier that is not named has no budget.
        rate, horizon: of the pacers.
    """

    def __init__(self, usd: Mapping[str, float], *, rate: float = 0.02, horizon: float = 500.0) -> None:
        self._rate, self._horizon = rate, horizon
        self._pacers: dict[str, Pacer] = {}
        self.configure(usd)

    def configure(self, usd: Mapping[str, float]) -> None:
        """Take other budgets from the next request on; a pacer whose budget stays goes on.

        Requests may be decided in other threads meanwhile: one that began under the old budget leaves a pacer of it behind,
        which `multiplier` replaces.
        """
        self._usd = dict(usd)
        self._pacers = {tier: pacer for tier, pacer in list(self._pacers.items()) if usd.get(tier) == pacer.budget}

    def __contains__(self, tier: str) -> bool:
        """Whether the tier has a budget."""
        return tier in self._usd

    def multiplier(self, tier: str, path: MultiplierPath) -> float | None:
        """USD that one unit of accuracy is worth in this tier now; None where the tier has no budget.

        Args:
            tier: of the request.
            path: of the bundle that decides; a tier's first request takes its start from there.
        """
        budget, pacer = self._usd.get(tier), self._pacers.get(tier)
        if budget is None:
            return None
        if pacer is None or pacer.budget != budget:
            pacer = self._pacers[tier] = self._start(budget, path)
        return pacer.multiplier

    def spent(self, tier: str, cost_usd: float) -> None:
        """Note what a request of a tier cost in the end."""
        pacer = self._pacers.get(tier)
        if pacer is not None:
            pacer.spent(cost_usd)

    def _start(self, budget: float, path: MultiplierPath) -> Pacer:
        low, high = float(path.multiplier[1]), float(path.multiplier[-1])
        start = min(max(path.for_cost(budget)[0], low), high)
        return Pacer(budget, multiplier=start, low=low, high=high, rate=self._rate, horizon=self._horizon)


NO_BUDGETS = Budgets({})
