"""A router's predictions on a table next to the truth, at the prices of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rheostat.data.ledger import Price
from rheostat.router.base import Encoder
from rheostat.router.bundle import Bundle
from rheostat.router.features import feature_rows
from rheostat.router.predictor import PriceVector
from rheostat.training.baselines import Costed
from rheostat.training.outcomes import Array, OutcomeTable


@dataclass(frozen=True, slots=True)
class Judged:
    """A router's predictions on a part of the table next to the truth; all (n, a)."""

    p_correct: Array
    cost_usd: Array
    truth: Costed


def price_vector(bundle: Bundle, prices: Mapping[str, Price]) -> PriceVector:
    """Prices of a bundle's actions, in its order."""
    priced = [prices.get(action.model, Price()) for action in bundle.actions]
    return PriceVector.of([price.usd_per_1m_output for price in priced], [price.usd_per_1m_input for price in priced])


def lengths(texts: Sequence[str]) -> Array:
    """(n,) characters of each text."""
    return np.array([len(text) for text in texts], dtype=np.float64)


def costed(table: OutcomeTable, prices: Mapping[str, Price]) -> Costed:
    """A complete table with its costs."""
    return Costed(table.reward, table.tokens, table.cost_usd(prices))


def kept_queries(bundle: Bundle, prices: Mapping[str, Price]) -> Costed:
    """The queries that a bundle keeps, at today's prices."""
    held = bundle.held_out
    return Costed(held.reward, held.tokens, held.cost_usd(price_vector(bundle, prices)))


def judge(bundle: Bundle, table: OutcomeTable, prices: Mapping[str, Price], *, encoder: Encoder | None = None) -> Judged:
    """A bundle's predictions on the queries of a table, whose actions must be the bundle's.

    Args:
        bundle: what predicts.
        table: queries with the true outcomes.
        prices: by model.
        encoder: the bundle's encoder where it is loaded already.

    Raises:
        DatasetError: the table lacks one of the bundle's actions.
    """
    table = table.only([str(action) for action in bundle.actions])
    encoder = bundle.encoder if encoder is None else encoder
    features = feature_rows(encoder.encode(list(table.texts)), table.texts)
    cost = bundle.predictor.costs.cost_usd(features, lengths(table.texts), price_vector(bundle, prices))
    return Judged(bundle.predictor.p_correct(features), cost, costed(table, prices))
