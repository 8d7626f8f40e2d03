"""Curves: hulls, areas and ratios against numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.training.bootstrap import Bootstrap
from rheostat.training.curves import Spend, accuracy_at, aiq, apgr, cost_at, cost_interval

COST, ACCURACY = np.array([1.0, 3.0, 2.0]), np.array([0.5, 0.9, 0.6])


def test_mixtures_fill_the_line_between_settings():
    assert accuracy_at(COST, ACCURACY, 2.0) == pytest.approx(0.7)
    assert cost_at(COST, ACCURACY, 0.7) == pytest.approx(2.0)


def test_what_no_setting_reaches_is_out_of_reach():
    assert accuracy_at(COST, ACCURACY, 0.5) == 0.0
    assert cost_at(COST, ACCURACY, 0.95) == float("inf")


def test_area_of_one_setting_is_its_accuracy_where_it_can_be_paid():
    assert aiq(np.array([1.0]), np.array([0.8]), 1.0, 4.0) == pytest.approx(0.8)


@given(st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_another_setting_never_shrinks_the_area(seed):
    rng = np.random.default_rng(seed)
    cost, accuracy = rng.uniform(0.1, 5, 6), rng.random(6)
    assert aiq(cost, accuracy, 0.1, 5.0) >= aiq(cost[:-1], accuracy[:-1], 0.1, 5.0) - 1e-12


@given(st.integers(0, 500), st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None)
def test_cost_and_accuracy_undo_each_other_on_the_hull(seed, target):
    rng = np.random.default_rng(seed)
    cost, accuracy = rng.uniform(0.1, 5, 6), rng.random(6)
    needed = cost_at(cost, accuracy, target)
    if np.isfinite(needed):
        assert accuracy_at(cost, accuracy, needed + 1e-9) >= target - 1e-6


def test_a_policy_at_half_the_cost_has_ratio_two_inside_its_interval():
    rng = np.random.default_rng(0)
    reward = (rng.random((400, 1)) < 0.7).astype(float)
    cost, ratio = cost_interval(Spend(reward, np.full((400, 1), 1.0)), Spend(reward, np.full((400, 1), 2.0)), Bootstrap(400))
    assert cost == pytest.approx(1.0)
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.value == pytest.approx(2.0)


def test_random_routing_recovers_half_of_the_gap():
    share = np.linspace(0, 1, 11)
    assert apgr(0.5 + 0.3 * share, share, 0.5, 0.8) == pytest.approx(0.5)


def test_equal_arms_have_no_gap_to_recover():
    assert apgr(np.array([0.5]), np.array([0.5]), 0.5, 0.5) == 0.0


def test_a_policy_that_costs_nothing_is_so_much_cheaper():
    reward = np.random.default_rng(0).random((100, 1))
    cost, ratio = cost_interval(Spend(reward, np.zeros((100, 1))), Spend(reward, np.ones((100, 1))), Bootstrap(100))
    assert cost == 0
    assert np.isfinite([ratio.value, ratio.low, ratio.high]).all()
    assert ratio.low > 1000
