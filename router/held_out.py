"""The queries a bundle keeps: what was predicted of them, what came true, and which of them are fresh.

Decision rules are tuned on them, for any prices and any subset of actions. Fresh ones had no part in making the bundle,
so that only they can carry a promise. Knows prices, and nothing of rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array
from rheostat.router.predictor import PriceVector

Mask = npt.NDArray[np.bool_]

CELLS = ("p_correct", "reward", "tokens", "prompt_tokens", "expected_tokens", "expected_prompt_tokens")
PREFIX = "held_out."


class HeldOut(NamedTuple):
    """Queries that no learner was fitted on.

    Attributes:
        p_correct: (n, a) calibrated predictions.
        reward: (n, a) true expected rewards in [0, 1].
        tokens, prompt_tokens: (n, a) true expected tokens, which are paid for.
        expected_tokens, expected_prompt_tokens: (n, a) predicted, which decisions see.
        fresh: (n,) queries that calibrated nothing either.
        far: (n,) queries that the bundle's guard answers.
    """

    p_correct: Array
    reward: Array
    tokens: Array
    prompt_tokens: Array
    expected_tokens: Array
    expected_prompt_tokens: Array
    fresh: Mask
    far: Mask

    @classmethod
    def known(cls, p_correct: Array, reward: Array, tokens: Array, prompt_tokens: Array) -> HeldOut:
        """Queries whose costs were predicted exactly, none of them fresh and none far."""
        none = np.zeros(len(reward), dtype=bool)
        return cls(p_correct, reward, tokens, prompt_tokens, tokens, prompt_tokens, none, none)

    def cost_usd(self, prices: PriceVector) -> Array:
        """(n, a) USD that the queries cost at these prices."""
        return np.asarray(self.tokens * prices.output + self.prompt_tokens * prices.prompt)

    def expected_usd(self, prices: PriceVector) -> Array:
        """(n, a) USD that a decision expects them to cost."""
        return np.asarray(self.expected_tokens * prices.output + self.expected_prompt_tokens * prices.prompt)

    def accuracy_of(self, action: int) -> float:
        """Mean reward of one action, the fresh queries left out: a target taken from them could not be promised on them."""
        return float(self.reward[~self.fresh, action].mean())


def held_out_arrays(held_out: HeldOut) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays by name, as a bundle writes them."""
    return {f"{PREFIX}{name}": value.astype(np.float32) for name, value in held_out._asdict().items()}


def held_out_from(arrays: Mapping[str, npt.NDArray[Any]]) -> HeldOut:
    """The queries that `held_out_arrays` took apart; bundles of before there were fresh ones have none.

    Raises:
        KeyError: an array is missing.
        ValueError: the arrays do not fit together.
    """
    if f"{PREFIX}fresh" not in arrays:
        return HeldOut.known(*(_cells(arrays, name) for name in CELLS[:4]))
    fresh, far = (arrays[f"{PREFIX}{name}"] > 0 for name in ("fresh", "far"))
    cells: dict[str, Any] = {name: _cells(arrays, name) for name in CELLS}
    found = HeldOut(**cells, fresh=fresh, far=far)
    shapes = {values.shape for values in cells.values()}
    if len(shapes) > 1 or fresh.shape != far.shape or fresh.shape != found.reward.shape[:1] or fresh.all():
        raise ValueError(f"held-out queries of shapes {sorted(shapes)}, {fresh.sum()} of {len(fresh)} fresh")
    return found


def _cells(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Array:
    return np.asarray(arrays[f"{PREFIX}{name}"], dtype=np.float64)
