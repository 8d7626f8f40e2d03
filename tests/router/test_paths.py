"""Multiplier paths by the models that are up."""

from __future__ import annotations

import itertools

import numpy as np

from rheostat.router.paths import Paths
from rheostat.router.predictor import PriceVector
from tests.router.conftest import known_bundle, known_paths

EVERY = np.ones(3, bool)


def test_a_path_is_made_once_for_each_set_of_actions():
    paths = known_paths()
    assert paths.of(EVERY) is paths.of(EVERY.copy())
    assert paths.of(EVERY) is not paths.of(np.array([True, True, False]))


def test_more_actions_never_reach_less():
    paths = known_paths()
    best = paths.of(EVERY).accuracy[-1]
    for mask in itertools.product([True, False], repeat=3):
        if any(mask):
            assert paths.of(np.array(mask)).accuracy[-1] <= best + 1e-9


def test_dearer_multipliers_never_cost_less():
    assert (np.diff(known_paths().of(EVERY).cost) >= 0).all()


def test_a_path_decides_by_expected_costs_and_counts_true_ones():
    held_out, prices = known_bundle().held_out, PriceVector(np.full(3, 1e-6), np.zeros(3))
    doubled = held_out._replace(tokens=2 * held_out.tokens)
    before, after = Paths(held_out, prices).whole, Paths(doubled, prices).whole
    np.testing.assert_array_equal(after.multiplier, before.multiplier)
    np.testing.assert_array_equal(after.accuracy, before.accuracy)
    np.testing.assert_allclose(after.cost, 2 * before.cost)
