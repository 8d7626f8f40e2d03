"""Trying another action now and then for the sake of learning, with the chance it had. Its state is a random stream."""

from __future__ import annotations

import random

import msgspec

from rheostat.router import explore
from rheostat.router.ruling import AVERAGE, BUDGET, SEQUENTIAL, Ruling
from rheostat.router.situation import Situation


class Drawn(msgspec.Struct, frozen=True):
    """What will be done: the ruling, the action in the end, its chance, and whether it was tried for the sake of learning."""

    ruling: Ruling
    action: int
    propensity: float
    explored: bool = False


class Explorer:
    """Draws the action that is really taken.

    Args:
        epsilon: chance of exploring, in [0, 1].
        seed: of the random stream.
    """

    def __init__(self, epsilon: float, seed: int) -> None:
        self._epsilon = epsilon
        self._random = random.Random(seed)

    def draw(self, situation: Situation, ruling: Ruling) -> Drawn:
        """The ruling's action, or one near the frontier where the request lets itself be used for learning."""
        rewarding = self._epsilon > 0 and ruling.rule in (AVERAGE, BUDGET, SEQUENTIAL) and situation.admissible.any()
        if not (rewarding and situation.may_explore):
            return Drawn(ruling, ruling.action, 1.0)
        if ruling.rule == SEQUENTIAL:
            return self._beside(situation, ruling)
        prediction = situation.prediction
        chances = explore.propensities(ruling.action, prediction.p_correct, prediction.cost_usd, situation.admissible, self._epsilon)
        action = explore.draw(chances, self._random)
        return Drawn(ruling, action, float(chances[action]), explored=action != ruling.action)

    def _beside(self, situation: Situation, ruling: Ruling) -> Drawn:
        """Now and then a single action in the place of several: only those teach what one action gives."""
        if self._random.random() >= self._epsilon:
            return Drawn(ruling, ruling.action, 1 - self._epsilon)
        prediction = situation.prediction
        near = explore.near_frontier(prediction.p_correct, prediction.cost_usd, situation.admissible)
        action = explore.draw(near / near.sum(), self._random)
        return Drawn(msgspec.structs.replace(ruling, rule=AVERAGE), action, self._epsilon / int(near.sum()), explored=True)
