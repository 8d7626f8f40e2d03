"""Boosted trees on cross-entropy."""

import numpy as np
import pytest

from rheostat.training.boosting import fit_booster

SETTINGS = {"num_leaves": 4, "min_data_in_leaf": 5}


@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_rows_and_seed_give_the_same_trees_for_fractional_labels(weighted):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3))
    label, weight = 1 / (1 + np.exp(-2 * rows[:, 0])), rng.uniform(0.5, 1.5, 300) if weighted else None
    once, again = (fit_booster(rows, label, weight, settings=SETTINGS, rounds=30, seed=3) for _ in range(2))
    assert once.model_to_string() == again.model_to_string()
    told = np.asarray(once.predict(rows, num_threads=1))
    assert ((told > 0) & (told < 1)).all()
    assert np.corrcoef(told, label)[0, 1] > 0.9
