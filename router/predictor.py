"""From a feature row to what every action would give: P(correct), tokens, cost and seconds, in one batched call.

Inference only, on numpy. Learners give logits; their weighted mean is calibrated. Knows nothing of how
any of it was fitted, nor of decision rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import BundleError
from rheostat.data.ledger import TOKENS_PER_PRICE_UNIT
from rheostat.router.base import Array, FeatureRow, Prediction
from rheostat.router.booster_text import parse_booster
from rheostat.router.calibration import Calibrator, ErrorBand, clamp
from rheostat.router.leaf_masks import LeafMasks

LOGIT_LIMIT = 8.0
MAX_LOG_TOKENS, MAX_LOG_SECONDS = 16.0, 12.0
Length = TypeVar("Length", float, Array)


class Learner(Protocol):
    """Logits of P(correct) for all actions."""

    def logits(self, features: FeatureRow) -> Array:
        """(n, n_actions) logits of (n, n_features) rows."""
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """Affine in the standardised features. With zero weights it is a constant per action, the simplest learner.

    Attributes:
        mean, scale: (d,) of the training features.
        weights: (d, a).
        bias: (a,).
    """

    mean: Array
    scale: Array
    weights: Array
    bias: Array

    def raw(self, features: FeatureRow) -> Array:
        """(n, a) values. Standardised features are clipped at 6 sigma, so that no odd text runs away."""
        standard = clamp((features - self.mean) / self.scale, -6.0, 6.0)
        return np.asarray(standard @ self.weights + self.bias)

    def logits(self, features: FeatureRow) -> Array:
        """(n, a) logits within +-LOGIT_LIMIT."""
        return clamp(self.raw(features), -LOGIT_LIMIT, LOGIT_LIMIT)


@dataclass(frozen=True)
class Boosted:
    """Boosted trees over (query, action) rows: projected embedding, text statistics, action features.

    Attributes:
        text: the trees as LightGBM writes them.
        projection: (dimension, m) principal directions of the embedding.
        action_features: (a, f) one row an action.
    """

    text: str
    projection: Array
    action_features: Array

    def queries(self, features: FeatureRow) -> npt.NDArray[np.float32]:
        """(n, m + statistics) the columns of a row that are a query's."""
        dimension, _ = self.projection.shape
        return np.concatenate([features[:, :dimension] @ self.projection, features[:, dimension:]], axis=1, dtype=np.float32)

    def rows(self, features: FeatureRow) -> npt.NDArray[np.float32]:
        """(n * a, m + statistics + f) rows, the actions of one query next to each other."""
        queries, actions = self.queries(features), self.action_features.astype(np.float32)
        return np.concatenate([np.repeat(queries, len(actions), axis=0), np.tile(actions, (len(queries), 1))], axis=1)

    def logits(self, features: FeatureRow) -> Array:
        """(n, a) logits within +-LOGIT_LIMIT."""
        queries = self.queries(features)
        given, read = queries.shape[1], self.masks.n_columns
        if given != read:
            raise BundleError(f"the trees read {read} columns of a query, and are given {given}: fit the bundle again")
        return clamp(self.masks(queries), -LOGIT_LIMIT, LOGIT_LIMIT)

    @cached_property
    def masks(self) -> LeafMasks:
        """The parsed trees.

        Raises:
            BundleError: the text holds no trees that can be read.
        """
        trees, n_features = parse_booster(self.text)
        try:
            return LeafMasks.of(trees, self.action_features.astype(np.float32), n_features=n_features)
        except ValueError as error:
            raise BundleError(f"the trees cannot be asked ({error}): fit the bundle again") from error


class Effort(NamedTuple):
    """Tokens and seconds that queries are expected to take; both are (n, a)."""

    tokens: Array
    latency_s: Array


@dataclass(frozen=True)
class CostHead:
    """Expected tokens and seconds: log-linear in the features, times a factor that undoes the bias of the logarithm.

    Attributes:
        log_tokens, log_latency: heads over log(1 + value), of one standardisation: both are asked in one product.
        tokens_factor, latency_factor: (a,) mean observed over mean predicted.
        latency_p95: (a,) 95th percentile of observed over predicted seconds.
        prompt_base, prompt_per_character: tokens of the prompt as a line in the text's length.

    Source: Duan 1983 (smearing).
    """

    log_tokens: Linear
    log_latency: Linear
    tokens_factor: Array
    latency_factor: Array
    latency_p95: Array
    prompt_base: float
    prompt_per_character: float

    def __post_init__(self) -> None:
        tokens, latency = self.log_tokens, self.log_latency
        if not (np.array_equal(tokens.mean, latency.mean) and np.array_equal(tokens.scale, latency.scale)):
            raise ValueError("the heads of tokens and of seconds standardise features in different ways")

    def effort(self, features: FeatureRow) -> Effort:
        """What queries of (n, d) rows are expected to take."""
        values = np.expm1(clamp(self._heads.raw(features), 0.0, self._limits)) * self._factors
        n_actions = len(self.tokens_factor)
        return Effort(values[:, :n_actions], values[:, n_actions:])

    def tokens(self, features: FeatureRow) -> Array:
        """(n, a) expected generated tokens."""
        return self.effort(features).tokens

    def latency_s(self, features: FeatureRow) -> Array:
        """(n, a) expected seconds."""
        return self.effort(features).latency_s

    def prompt_tokens(self, n_characters: Length) -> Length:
        """Expected prompt tokens of a text of that length, or of texts of those."""
        return self.prompt_base + self.prompt_per_character * n_characters

    def cost_usd(self, features: FeatureRow, n_characters: Array, prices: PriceVector) -> Array:
        """(n, a) expected USD of queries whose texts are (n,) characters long."""
        return np.asarray(self.tokens(features) * prices.output + self.prompt_tokens(n_characters)[:, None] * prices.prompt)

    @cached_property
    def _heads(self) -> Linear:
        """Both heads as one of 2a columns."""
        tokens, latency = self.log_tokens, self.log_latency
        weights = np.concatenate([tokens.weights, latency.weights], axis=1)
        return Linear(tokens.mean, tokens.scale, weights, np.concatenate([tokens.bias, latency.bias]))

    @cached_property
    def _limits(self) -> Array:
        """(2a,) the largest logarithms that are believed."""
        return np.repeat([MAX_LOG_TOKENS, MAX_LOG_SECONDS], len(self.tokens_factor))

    @cached_property
    def _factors(self) -> Array:
        return np.concatenate([self.tokens_factor, self.latency_factor])


@dataclass(frozen=True, slots=True)
class PriceVector:
    """USD per token by action; both are (a,)."""

    output: Array
    prompt: Array

    @classmethod
    def of(cls, usd_per_1m_output: list[float], usd_per_1m_input: list[float]) -> PriceVector:
        """From prices per million tokens, in catalogue order."""
        return cls(np.array(usd_per_1m_output) / TOKENS_PER_PRICE_UNIT, np.array(usd_per_1m_input) / TOKENS_PER_PRICE_UNIT)


@dataclass(frozen=True, slots=True)
class Predictor:
    """Learners, their weights, a calibrator, an error band and the cost head.

    Attributes:
        weights: one for each of k learners, or (k, a) where every action weighs them in its own way.
    """

    learners: tuple[Learner, ...]
    weights: Sequence[float] | Array
    calibrator: Calibrator
    band: ErrorBand
    costs: CostHead

    def logits(self, features: FeatureRow) -> Array:
        """(n, a) logits before calibration."""
        first, *others = (w * learner.logits(features) for w, learner in zip(self.weights, self.learners, strict=True))
        return np.asarray(sum(others, start=first))

    def p_correct(self, features: FeatureRow) -> Array:
        """(n, a) calibrated P(correct)."""
        return self.calibrator(self.logits(features))

    def predict(self, features: FeatureRow, prices: PriceVector, n_characters: Sequence[int]) -> list[Prediction]:
        """Everything expected of the actions on n queries, one after the other.

        Args:
            features: (n, d) the queries' rows.
            prices: of the actions, in the same order.
            n_characters: lengths of the n texts.
        """
        p = self.p_correct(features)
        tokens, latency_s = self.costs.effort(features)
        prompt_tokens = self.costs.prompt_tokens(np.array(n_characters, dtype=float))
        cost = tokens * prices.output + prompt_tokens[:, None] * prices.prompt
        return [*map(Prediction, p, self.band.low(p), self.band.high(p), tokens, cost, latency_s)]
