"""Networks as a learner: their mean, within bounds, and the same after having been arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rheostat.router.arrays import predictor_arrays, predictor_from
from rheostat.router.features import STATISTICS
from rheostat.router.networks import Networks
from rheostat.router.predictor import LOGIT_LIMIT
from tests.router.conftest import DIMENSION, known_predictor


def networks(count: int, *, d: int = 3, hidden: int = 4, actions: int = 2, seed: int = 0) -> Networks:
    rng = np.random.default_rng(seed)
    shapes = ((count, d, hidden), (count, hidden), (count, hidden, actions), (count, actions))
    return Networks(np.zeros(d, np.float32), np.ones(d, np.float32), *(rng.standard_normal(s).astype(np.float32) for s in shapes))


def test_logits_are_the_mean_of_the_single_networks():
    three, rows = networks(3), np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    alone = [
        Networks(three.mean, three.scale, three.inner[[m]], three.inner_bias[[m]], three.outer[[m]], three.outer_bias[[m]]).logits(rows)
        for m in range(3)
    ]
    np.testing.assert_allclose(three.logits(rows), np.mean(alone, axis=0), rtol=1e-5, atol=1e-5)


def test_a_hidden_unit_counts_only_above_zero():
    one = Networks(*(np.array(each, np.float32) for each in ([0], [1], [[[1]]], [[0]], [[[2]]], [[0.5]])))
    np.testing.assert_allclose(one.logits(np.array([[3.0], [-3.0]], np.float32)), [[6.5], [0.5]])


@pytest.mark.parametrize("far", [1e9, -1e9])
def test_odd_texts_do_not_run_away(far):
    wild = replace(networks(2), outer=networks(2).outer * 1000)
    logits = wild.logits(np.full((1, 3), far, np.float32))
    assert np.abs(logits).max() <= LOGIT_LIMIT


def test_a_predictor_of_networks_comes_back_from_its_arrays():
    d = DIMENSION + len(STATISTICS)
    predictor = replace(known_predictor(), learners=(networks(2, d=d, actions=3),))
    arrays, texts, layout = predictor_arrays(predictor)
    again = predictor_from(arrays, layout, texts.__getitem__)
    rows = np.random.default_rng(2).standard_normal((4, d)).astype(np.float32)
    np.testing.assert_array_equal(again.p_correct(rows), predictor.p_correct(rows))
