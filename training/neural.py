"""Fitting `router.networks`: a few small networks over all actions, averaged.

Rows are seen fewer times where there are many: the steps are what takes long, and they are many enough by then.
"""

from __future__ import annotations

import numpy as np

from rheostat.router.base import Array, FeatureRow
from rheostat.router.calibration import logit
from rheostat.router.networks import Networks, standardised
from rheostat.router.sequential import Network
from rheostat.training.learners import TrainingSet, action_means
from rheostat.training.networks import Fitting

WIDTH = 96
EPOCHS = 40
MIN_EPOCHS = 6
ROWS_SEEN = 400_000
NETWORKS = 2
RATE = 2e-3
DECAY = 0.03
DROPOUT = 0.3
INPUT_DROPOUT = 0.2


def fit_networks(data: TrainingSet, seed: int = 0) -> Networks:
    """Networks fitted to the weighted rewards by cross-entropy."""
    mean = data.features.mean(axis=0)
    scale = np.maximum(data.features.std(axis=0), np.float32(1e-6))
    rows = standardised(data.features, mean, scale)
    fitted = [_fitted(rows, data, NETWORKS * seed + number) for number in range(NETWORKS)]
    inner, outer = (np.stack([network.weights[layer] for network in fitted]) for layer in (0, 1))
    inner_bias, outer_bias = (np.stack([network.biases[layer] for network in fitted]) for layer in (0, 1))
    return Networks(mean, scale, inner, inner_bias, outer, outer_bias)


def network_logits(train: TrainingSet, features: FeatureRow, seed: int = 0) -> Array:
    """(m, a) logits of the averaged networks for new rows."""
    return fit_networks(train, seed).logits(features)


def _fitted(rows: FeatureRow, train: TrainingSet, seed: int) -> Network:
    widths = (rows.shape[1], WIDTH, train.table.reward.shape[1])
    start = logit(action_means(train.table))
    fitting = Fitting(widths, seed=seed, dropout=DROPOUT, input_dropout=INPUT_DROPOUT, decay=DECAY, start=start)
    epochs = int(np.clip(ROWS_SEEN // max(len(rows), 1), MIN_EPOCHS, EPOCHS))
    for epoch in range(epochs):
        rate = 0.5 * RATE * (1 + np.cos(np.pi * epoch / epochs))
        fitting.epoch(rows, train.table.reward, train.table.weight, rate=rate, logistic=True)
    return fitting.network
