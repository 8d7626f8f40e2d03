"""Multiplier paths of a bundle's held-out queries and what they promise, made once for each set of models that are up."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array
from rheostat.router.bundle import Bundle
from rheostat.router.predictor import PriceVector
from rheostat.router.promises import PromisedPath, Trial
from rheostat.router.rules import Mask, MultiplierPath, choose_along, multiplier_grid

_MAX_PATHS = 64


class Paths:
    """What one multiplier after the other gave on the held-out queries, deciding as live decisions do: by expected cost.

    Args:
        bundle: with queries of known outcomes.
        prices: of its actions.
    """

    def __init__(self, bundle: Bundle, prices: PriceVector) -> None:
        self._held_out, self._guard = bundle.held_out, bundle.guard
        self._expected, self._paid = self._held_out.expected_usd(prices), self._held_out.cost_usd(prices)
        self._path = lru_cache(_MAX_PATHS)(self._path_of)
        self._trial = lru_cache(_MAX_PATHS)(self._trial_of)
        self._promised = lru_cache(_MAX_PATHS)(self._promised_of)

    def of(self, allowed: Mask) -> MultiplierPath:
        """Multiplier to accuracy and cost on the held-out queries, for the (a,) actions that are up."""
        return self._path(allowed.tobytes())

    def promised(self, allowed: Mask, confidence: float) -> PromisedPath:
        """Multiplier to promised accuracy, for the (a,) actions that are up.

        Args:
            confidence: chance that a promise holds, in (0, 1).
        """
        return self._promised(allowed.tobytes(), confidence)

    def tested_picks(self, allowed: Mask) -> npt.NDArray[np.intp]:
        """(m, L) the action that each policy on the path takes on each of the m fresh queries, far ones left to the guard."""
        held_out, fresh = self._held_out, self._held_out.fresh
        p, expected = held_out.p_correct[fresh][:, allowed], self._expected[fresh][:, allowed]
        picks = choose_along(p, expected, self.of(allowed).multiplier)
        guarded = np.where(held_out.far[fresh][:, None], self._guarded(p, allowed)[:, None], picks)
        return np.asarray(np.flatnonzero(allowed)[guarded])

    @property
    def every(self) -> Mask:
        """(a,) all actions."""
        return np.ones(self._expected.shape[1], dtype=bool)

    def _path_of(self, key: bytes) -> MultiplierPath:
        allowed = np.frombuffer(key, dtype=bool)
        held_out, expected = self._held_out, self._expected[:, allowed]
        # Promises are tested along this path, so the queries that test them must not shape it.
        grid = multiplier_grid(expected[~held_out.fresh])
        return MultiplierPath.of(
            held_out.p_correct[:, allowed], expected, held_out.reward[:, allowed], paid=self._paid[:, allowed], grid=grid
        )

    def _trial_of(self, key: bytes) -> Trial:
        allowed = np.frombuffer(key, dtype=bool)
        reward = self._held_out.reward[self._held_out.fresh]
        return Trial.of(self._path(key).multiplier, np.take_along_axis(reward, self.tested_picks(allowed), axis=1))

    def _promised_of(self, key: bytes, confidence: float) -> PromisedPath:
        return self._trial(key).promised(confidence)

    def _guarded(self, p_correct: Array, allowed: Mask) -> npt.NDArray[np.intp]:
        """(n,) what the guard takes among the allowed actions: its own, or the one most likely right where that is down."""
        action = self._guard.action
        if allowed[action]:
            return np.full(len(p_correct), allowed[:action].sum(), dtype=np.intp)
        return np.asarray(p_correct.argmax(axis=1))
