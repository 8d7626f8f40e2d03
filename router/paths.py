"""Multiplier paths of a bundle's held-out queries, made once for each set of models that are up."""

from __future__ import annotations

from rheostat.router.bundle import HeldOut
from rheostat.router.predictor import PriceVector
from rheostat.router.rules import Mask, MultiplierPath

_MAX_PATHS = 64


class Paths:
    """A cache of paths.

    Args:
        held_out: queries with known outcomes.
        prices: of the actions.
    """

    def __init__(self, held_out: HeldOut, prices: PriceVector) -> None:
        self._held_out = held_out
        self._cost = held_out.cost_usd(prices)
        self._paths: dict[bytes, MultiplierPath] = {}

    def of(self, allowed: Mask) -> MultiplierPath:
        """Multiplier to accuracy and cost on the held-out queries, for the (a,) actions that are up."""
        key = allowed.tobytes()
        if key not in self._paths:
            if len(self._paths) >= _MAX_PATHS:
                self._paths.clear()
            held_out = self._held_out
            self._paths[key] = MultiplierPath.of(held_out.p_correct[:, allowed], self._cost[:, allowed], held_out.reward[:, allowed])
        return self._paths[key]
