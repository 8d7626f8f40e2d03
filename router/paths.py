"""Multiplier paths of a bundle's held-out queries, made once for each set of models that are up."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rheostat.router.held_out import HeldOut
from rheostat.router.predictor import PriceVector
from rheostat.router.rules import Mask, MultiplierPath, multiplier_grid

_MAX_PATHS = 64


class Paths:
    """What one multiplier after the other gave on the held-out queries, deciding as live decisions do: by expected cost.

    Args:
        held_out: queries with known outcomes.
        prices: of the actions.
    """

    def __init__(self, held_out: HeldOut, prices: PriceVector) -> None:
        self._held_out = held_out
        self._expected, self._paid = held_out.expected_usd(prices), held_out.cost_usd(prices)
        self._path = lru_cache(_MAX_PATHS)(self._path_of)

    def of(self, allowed: Mask) -> MultiplierPath:
        """Multiplier to accuracy and cost on the held-out queries, for the (a,) actions that are up."""
        return self._path(allowed.tobytes())

    @property
    def whole(self) -> MultiplierPath:
        """The path with every action up."""
        return self.of(np.ones(self._expected.shape[1], dtype=bool))

    def _path_of(self, key: bytes) -> MultiplierPath:
        allowed = np.frombuffer(key, dtype=bool)
        held_out, expected = self._held_out, self._expected[:, allowed]
        # Fresh queries do not shape the path that promises are tested along.
        grid = multiplier_grid(expected[~held_out.fresh])
        return MultiplierPath.of(
            held_out.p_correct[:, allowed], expected, held_out.reward[:, allowed], paid=self._paid[:, allowed], grid=grid
        )
