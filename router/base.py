"""The vocabulary of routing: predictions in, one decision out. Knows nothing of HTTP, strategies or logs."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FeatureRow = npt.NDArray[np.float32]


class Prediction(NamedTuple):
    """What is expected of every action on one query, in catalogue order; all arrays are (n_actions,)."""

    p_correct: Array
    p_low: Array
    p_high: Array
    tokens: Array
    cost_usd: Array
    latency_s: Array


class Choice(NamedTuple):
    """The action a rule picked: its index, its probability under the whole randomisation, and whether it meets the target."""

    action: int
    propensity: float
    feasible: bool
    rule: str


class Encoder(Protocol):
    """Text to unit vectors. `encoder_id` names the weights, so that a bundle is never read with another encoder."""

    encoder_id: str
    dimension: int

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """(n, dimension) rows of norm one."""
        ...


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that also says which tokens a text has."""

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Token numbers of each text."""
        ...

    def read(self, texts: list[str]) -> tuple[npt.NDArray[np.float32], list[list[int]]]:
        """What `encode` and `tokens` give, at the price of one of them where they share work."""
        ...
