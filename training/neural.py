"""A predictor that is a small network over all actions at once: what is learned of one action helps the others.

Two networks from different starts are averaged, which settles most of what single fits owe to chance.
Source: Lakshminarayanan et al. 2017 (deep ensembles).
"""

from __future__ import annotations

import numpy as np

from rheostat.router.base import Array, FeatureRow
from rheostat.router.calibration import logit
from rheostat.training.learners import TrainingSet, action_means
from rheostat.training.neighbours import standardised
from rheostat.training.networks import Fitting

WIDTH = 96
EPOCHS = 40
NETWORKS = 2
RATE = 2e-3
DECAY = 0.03
DROPOUT = 0.3
INPUT_DROPOUT = 0.2


def network_logits(train: TrainingSet, features: FeatureRow, seed: int = 0) -> Array:
    """(m, a) logits of the averaged networks."""
    rows, new = standardised(train.features, features)
    total = [_fitted(rows, new, train, NETWORKS * seed + number) for number in range(NETWORKS)]
    return np.asarray(np.mean(total, axis=0), dtype=np.float64)


def _fitted(rows: FeatureRow, new: FeatureRow, train: TrainingSet, seed: int) -> Array:
    widths = (rows.shape[1], WIDTH, train.table.reward.shape[1])
    start = logit(action_means(train.table))
    fitting = Fitting(widths, seed=seed, dropout=DROPOUT, input_dropout=INPUT_DROPOUT, decay=DECAY, start=start)
    for epoch in range(EPOCHS):
        rate = 0.5 * RATE * (1 + np.cos(np.pi * epoch / EPOCHS))
        fitting.epoch(rows, train.table.reward, train.table.weight, rate=rate, logistic=True)
    return np.asarray(fitting.network(new))
