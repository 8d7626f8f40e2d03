"""A stack of predictors: each gives cross-fitted logits, and per action a small logistic regression weighs them.

The training queries' own stacked predictions are made from logits that never saw them, so that what is fitted on top
(the weights here, a sequential policy elsewhere) learns how far such predictions can be trusted on new queries.
Source: Wolpert 1992 (stacked generalization).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rheostat.router.base import Array, FeatureRow
from rheostat.router.calibration import logit, sigmoid
from rheostat.training.embeddings import unheard
from rheostat.training.learners import TrainingSet, action_means, fit_boosted, fit_logistic
from rheostat.training.neighbours import kmeans_logits, knn_logits, segment_logits
from rheostat.training.neural import network_logits
from rheostat.training.split import folds

N_FOLDS = 4
# Members differ little, and what one action could gain by weights of its own is soon less than what they cost it in noise.
RIDGE = 300.0
STEPS = 12

LogitsFor = Callable[[TrainingSet, FeatureRow, int], Array]


def logistic_logits(train: TrainingSet, features: FeatureRow, seed: int = 0) -> Array:
    """(m, a) logits of a logistic regression per action."""
    return fit_logistic(train, seed).logits(features)


def boosted_logits(train: TrainingSet, features: FeatureRow, seed: int = 0) -> Array:
    """(m, a) logits of LightGBM over (query, action) rows."""
    return fit_boosted(train, seed).logits(features)


MEMBERS: Mapping[str, LogitsFor] = {
    "logistic": logistic_logits,
    "lightgbm": boosted_logits,
    "knn": knn_logits,
    "kmeans": kmeans_logits,
    "segments": segment_logits,
    "network": network_logits,
}


@dataclass(frozen=True, slots=True)
class Stacked:
    """Predictions of a stack and of its members.

    Attributes:
        held_in: (n, a) P(correct) of the training queries, from logits that did not see them.
        held_out: (m, a) P(correct) of the new queries.
        members: P(correct) of the new queries by each member alone, (m, a) each.
    """

    held_in: Array
    held_out: Array
    members: Mapping[str, Array]


def fit_stack(
    train: TrainingSet,
    features: FeatureRow,
    *,
    members: Mapping[str, LogitsFor] = MEMBERS,
    seed: int = 0,
    on_progress: Callable[[float], None] = unheard,
) -> Stacked:
    """Fit the stack on training queries and predict new ones.

    Args:
        train: n queries with every action's outcome.
        features: (m, d) rows of the new queries.
        members: what is stacked, by name.
        seed: of folds and members.
        on_progress: told the share done.
    """
    parts = [fold for fold in folds(train.table.texts, N_FOLDS, seed=seed) if len(fold)]
    inside, outside = [], []
    for done, (_, fit) in enumerate(members.items(), start=1):
        inside.append(_cross_fitted(fit, train, parts, seed))
        outside.append(fit(train, features, seed))
        on_progress(done / len(members))
    x, new = np.stack(inside, axis=2), np.stack(outside, axis=2)
    weights = fit_weights(x, train.table.reward, logit(action_means(train.table)))
    alone = {name: sigmoid(each) for name, each in zip(members, outside, strict=True)}
    return Stacked(mix(x, weights), mix(new, weights), alone)


def fit_weights(x: Array, reward: Array, base: Array) -> Array:
    """(a, k + 1) weights per action of k logits and a constant, by Newton's method on the logistic loss.

    Shrunk towards the mean of the members, the simplest stack: what is learned is the departure from it.

    Args:
        x: (n, a, k) cross-fitted logits.
        reward: (n, a) in [0, 1].
        base: (a,) logits of the actions' means, about which the logits are centred.
    """
    k = x.shape[2]
    start = np.append(np.full(k, 1.0 / k), 0.0)
    penalty = np.append(np.full(k, RIDGE), 1.0)
    weights = []
    for action in range(x.shape[1]):
        rows = np.column_stack([x[:, action] - base[action], np.ones(len(x))])
        weights.append(_newton(rows, reward[:, action], base[action], start, penalty))
    shifted = np.array(weights)
    # From centred logits back to plain ones.
    shifted[:, -1] += base * (1.0 - shifted[:, :-1].sum(axis=1))
    return shifted


def mix(x: Array, weights: Array) -> Array:
    """(n, a) P(correct) of (n, a, k) logits under (a, k + 1) weights."""
    return sigmoid(np.einsum("nak,ak->na", x, weights[:, :-1]) + weights[:, -1])


def _newton(rows: Array, reward: Array, offset: float, start: Array, penalty: Array) -> Array:
    weights = start.copy()
    for _ in range(STEPS):
        p = sigmoid(rows @ weights + offset)
        gradient = rows.T @ (p - reward) + penalty * (weights - start)
        curvature = (rows * (p * (1 - p))[:, None]).T @ rows + np.diag(penalty)
        weights -= np.linalg.solve(curvature, gradient)
    return weights


def _cross_fitted(fit: LogitsFor, train: TrainingSet, parts: list[np.ndarray[tuple[int, ...], np.dtype[np.intp]]], seed: int) -> Array:
    logits = np.empty(train.table.reward.shape)
    for part in parts:
        rest = np.setdiff1d(np.arange(len(train.table)), part)
        logits[part] = fit(train.rows(rest), train.features[part], seed)
    return logits
