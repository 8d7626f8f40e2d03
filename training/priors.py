"""Predictions for queries by models that did not see their outcomes: what a policy meets when it is served.

Whatever is fitted on top of predictions, a stop rule or a sequential policy, learns from these how far they can be
trusted. In-sample predictions would teach it to trust them too much.
"""

from __future__ import annotations

import numpy as np

from rheostat.router.base import Array
from rheostat.router.calibration import fit_platt
from rheostat.training.learners import TrainingSet, fit_logistic
from rheostat.training.outcomes import Rows
from rheostat.training.split import folds

N_FOLDS = 3


def honest_p(data: TrainingSet, train: Rows, *, seed: int) -> Array:
    """(n, a) P(correct) of all queries by logistic regressions fitted on those at `train`, whose own are cross-fitted.

    Args:
        data: n queries and the a actions to predict; a cell without weight teaches nothing.
        train: rows whose outcomes may be looked at.
        seed: of the folds.
    """
    seen = data.rows(train)
    logits = fit_logistic(seen, seed).logits(data.features)
    for part in folds(seen.table.texts, N_FOLDS, seed=seed):
        rest = np.setdiff1d(np.arange(len(train)), part)
        if len(part) and len(rest):
            logits[train[part]] = fit_logistic(seen.rows(rest), seed).logits(seen.features[part])
    return fit_platt(logits[train], seen.table.reward, seen.table.weight)(logits)
