"""Multiplier paths by the models that are up."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from rheostat.router.paths import Paths
from rheostat.router.predictor import PriceVector
from tests.router.conftest import known_bundle, known_paths, promising_bundle

EVERY = np.ones(3, bool)
PRICES = PriceVector(np.full(3, 1e-6), np.zeros(3))


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
    bundle = known_bundle()
    doubled = replace(bundle, held_out=bundle.held_out._replace(tokens=2 * bundle.held_out.tokens))
    before, after = (Paths(each, PRICES).of(EVERY) for each in (bundle, doubled))
    np.testing.assert_array_equal(after.multiplier, before.multiplier)
    np.testing.assert_array_equal(after.accuracy, before.accuracy)
    np.testing.assert_allclose(after.cost, 2 * before.cost)


def test_promises_rest_on_the_fresh_queries_alone():
    bundle = promising_bundle()
    fresh, held = bundle.held_out.fresh, bundle.held_out
    others_wrong = held._replace(reward=np.where(fresh[:, None], held.reward, 0.0))
    before, after = (known_paths(each).promised(EVERY, 0.9) for each in (bundle, replace(bundle, held_out=others_wrong)))
    np.testing.assert_array_equal(after.low, before.low)
    assert before.n == fresh.sum()
    assert 0.8 < before.attainable < held.reward[:, 2].mean()


def test_fresh_queries_do_not_shape_the_path_that_they_test():
    bundle = promising_bundle()
    held = bundle.held_out
    dearer = held._replace(expected_tokens=np.where(held.fresh[:, None], 100 * held.expected_tokens, held.expected_tokens))
    before, after = (known_paths(each).promised(EVERY, 0.9) for each in (bundle, replace(bundle, held_out=dearer)))
    np.testing.assert_array_equal(after.multiplier, before.multiplier)


@pytest.mark.parametrize("up", [[True, True, True], [True, True, False]])
def test_far_queries_are_tested_with_what_the_guard_takes(up):
    bundle, allowed = promising_bundle(), np.array(up)
    far = replace(bundle, held_out=bundle.held_out._replace(far=np.ones(800, bool)))
    path = known_paths(far).promised(allowed, 0.9)
    assert path.low[0] == path.low[-1]
    assert path.attainable == known_paths(bundle).promised(allowed, 0.9).attainable


def test_a_promise_is_made_once_for_each_set_of_actions_and_confidence():
    paths = known_paths(promising_bundle())
    assert paths.promised(EVERY, 0.9) is paths.promised(EVERY.copy(), 0.9)
    assert paths.promised(EVERY, 0.9) is not paths.promised(EVERY, 0.8)
