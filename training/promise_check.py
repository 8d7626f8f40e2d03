"""Does a trained router keep its promises? The queries that had no part in it, to be split at random again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from rheostat.data.ledger import Price
from rheostat.router.base import Encoder
from rheostat.router.held_out import HeldOut
from rheostat.router.paths import Paths
from rheostat.router.promises import came_true
from rheostat.training.fit import Fitted, held_out_of, training_set
from rheostat.training.guarantee_check import Pool
from rheostat.training.judged import price_vector


def untouched_pool(fitted: Fitted, prices: Mapping[str, Price], *, encoder: Encoder | None = None, seed: int = 0) -> Pool:
    """The fresh and the test queries of a training under every policy that promises are tested for.

    Rewards that are shares become right or wrong by a throw of a coin, as when a promise is made.

    Args:
        fitted: router and test queries.
        prices: by model.
        encoder: of the router, where it is loaded already.
        seed: of the coins.
    """
    bundle, test = fitted.bundle, training_set(fitted.test, encoder or fitted.bundle.encoder)
    tested = held_out_of(test, bundle.predictor, bundle.guard, np.ones(len(fitted.test), dtype=bool))
    joined = HeldOut(*(np.concatenate(both) for both in zip(bundle.held_out, tested, strict=True)))
    vector = price_vector(bundle, prices)
    paths = Paths(replace(bundle, held_out=joined), vector)
    picks = paths.tested_picks(paths.every)
    reward = np.take_along_axis(joined.reward[joined.fresh], picks, axis=1)
    number = np.arange(len(reward))
    cost = np.take_along_axis(joined.cost_usd(vector)[joined.fresh], picks, axis=1)
    return Pool(came_true(reward, seed=seed).astype(np.float64), cost, number, number)
