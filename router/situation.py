"""What is known about one query before an action is picked. Says nothing about which to pick."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from rheostat.data.schema import Constraints
from rheostat.router.base import Array, FeatureRow, Prediction
from rheostat.router.rules import Mask


class Seen(NamedTuple):
    """What a bundle makes of a text: (d,) its embedding, (f,) the features, and what is predicted from them."""

    embedding: FeatureRow
    features: FeatureRow
    prediction: Prediction


class Situation(msgspec.Struct, frozen=True):
    """One query in the eyes of a bundle; arrays over actions are (a,), in catalogue order.

    Attributes:
        embedding: (d,) of the query's text.
        features: (f,) what the predictor reads.
        prediction: of every action.
        constraints: the request's over its tier's.
        allowed: actions whose model is up.
        admissible: allowed actions that fit the caps and the deadline.
        target: accuracy to reach, also where the request names none.
        weighed: cost that the rules see under load, in USD.
        seconds_p95: 95th percentile of the actions' latency.
        paced: multiplier of a tier with a budget in USD per unit of accuracy, None without one.
    """

    embedding: FeatureRow
    features: FeatureRow
    prediction: Prediction
    constraints: Constraints
    allowed: Mask
    admissible: Mask
    target: float
    weighed: Array
    seconds_p95: Array
    paced: float | None

    @property
    def seen(self) -> Seen:
        """What of it lies in the text alone."""
        return Seen(self.embedding, self.features, self.prediction)

    @property
    def confidence(self) -> float | None:
        """With which the target is to be promised; None where it is only aimed at, and where a budget goes before."""
        return self.constraints.confidence if self.paced is None else None

    @property
    def is_unhindered(self) -> bool:
        """Whether nothing stands between the rules and what they would pick on held-out queries: no limit and no load."""
        return self.admissible is self.allowed and self.weighed is self.prediction.cost_usd

    @property
    def may_explore(self) -> bool:
        """Whether the request may be used for learning: a promise is of decisions that nothing is tried in."""
        return self.constraints.explore and self.confidence is None

    def is_late(self, action: int) -> bool:
        """Whether an action would miss the deadline."""
        deadline_s = self.constraints.deadline_s
        return deadline_s is not None and bool(self.seconds_p95[action] > deadline_s)
