"""Decision rules, frontier and exploration: properties over random predictions."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rheostat.data.schema import Constraints
from rheostat.router import rules
from rheostat.router.base import Prediction
from rheostat.router.explore import draw, near_frontier, propensities
from rheostat.router.frontier import frontier, upper_hull

P = hnp.arrays(np.float64, 6, elements=st.floats(0, 1))
COST = hnp.arrays(np.float64, 6, elements=st.floats(0.01, 100))
MASK = hnp.arrays(np.bool_, 6).filter(lambda mask: mask.any())


@given(P, COST, MASK)
def test_no_admissible_action_beats_one_on_the_frontier(p, cost, mask):
    edge = frontier(p, cost, mask)
    assert mask[edge].all()
    for index in edge:
        assert not (mask & (cost <= cost[index]) & (p > p[index])).any()
    assert (np.diff(cost[edge]) > 0).all()
    assert p[edge[-1]] == p[mask].max()


@given(P, COST)
def test_hull_is_a_concave_part_of_the_frontier(p, cost):
    hull = upper_hull(cost, p)
    assert set(hull) <= set(frontier(p, cost))
    slopes = np.diff(p[hull]) / np.diff(cost[hull])
    assert (np.diff(slopes) <= 1e-9 * np.abs(slopes[:-1])).all()


@given(P, COST, MASK, st.floats(0, 1000), st.floats(0, 1000))
def test_higher_multiplier_never_buys_less_accuracy(p, cost, mask, one, other):
    low, high = sorted([one, other])
    cheap = rules.average(p, cost, mask, multiplier=low)
    dear = rules.average(p, cost, mask, multiplier=high)
    assert mask[cheap]
    assert mask[dear]
    assert p[dear] >= p[cheap] - 1e-9 or np.isclose(high, low)


@given(P, COST, MASK, st.floats(0, 1))
def test_per_query_takes_the_cheapest_action_meeting_the_target(p, cost, mask, target):
    action, feasible = rules.per_query(p, cost, mask, target=target)
    assert mask[action]
    assert feasible == bool((mask & (p >= target)).any())
    assert cost[action] == cost[mask & (p >= target)].min() if feasible else p[action] == p[mask].max()


def test_ties_go_to_the_cheaper_then_to_the_first():
    everything = np.ones(3, bool)
    assert rules.average(np.array([0.5, 0.5, 0.5]), np.array([2.0, 1.0, 1.0]), everything, multiplier=0.0) == 1
    assert rules.most_accurate(np.array([0.9, 0.9, 0.1]), np.array([2.0, 1.0, 1.0]), everything) == 1


@given(hnp.arrays(np.float64, (30, 4), elements=st.floats(0, 1)), st.integers(0, 1000))
def test_path_is_monotone_and_targets_are_met_on_it(p, seed):
    cost = np.random.default_rng(seed).uniform(0.1, 10, (1, 4)) * np.ones((30, 1))
    path = rules.MultiplierPath.of(p, cost, p)
    assert (np.diff(path.accuracy) >= -1e-12).all()
    assert (np.diff(path.multiplier) > 0).all()
    previous = -1.0
    for target in np.linspace(0, 1, 11):
        multiplier, feasible = path.for_target(target)
        assert multiplier >= previous or not feasible
        assert feasible == (path.accuracy.max() >= target - 1e-12)
        previous = multiplier


def test_budget_gives_the_most_accurate_policy_within_the_mean_cost(bundle):
    held_out = bundle.held_out
    path = rules.MultiplierPath.of(held_out.p_correct, held_out.tokens, held_out.reward)
    multiplier, feasible = path.for_cost(260.0)
    spent = np.take_along_axis(held_out.tokens, rules.choose_rows(held_out.p_correct, held_out.tokens, multiplier)[:, None], axis=1)
    assert feasible
    assert spent.mean() <= 260.0
    assert path.for_cost(0.1) == (0.0, False)


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        (Constraints(), [True, True, True]),
        (Constraints(max_cost_usd=2.0), [True, True, False]),
        (Constraints(max_tokens_total=100), [True, False, False]),
        (Constraints(deadline_s=4.0), [True, True, False]),
    ],
)
def test_caps_and_deadline_remove_actions(constraints, expected):
    numbers = np.array([1.0, 2.0, 3.0])
    prediction = Prediction(numbers / 4, numbers / 4, numbers / 4, numbers, numbers, numbers)
    mask = rules.admissible(prediction, np.array([64, 256, 512]), np.full(3, 2.0), constraints, allowed=np.ones(3, bool))
    assert mask.tolist() == expected


@given(P, COST, MASK, st.floats(0, 1))
def test_propensities_sum_to_one_and_stay_admissible(p, cost, mask, epsilon):
    chosen = rules.most_accurate(p, cost, mask)
    chances = propensities(chosen, p, cost, mask, epsilon)
    assert chances.sum() == pytest.approx(1.0)
    assert (chances[~mask] == 0).all()
    assert chances[chosen] >= 1 - epsilon - 1e-12


def test_without_epsilon_nothing_is_explored():
    assert propensities(1, np.array([0.1, 0.2]), np.ones(2), np.ones(2, bool), 0.0).tolist() == [0.0, 1.0]


def test_far_dominated_actions_are_not_near_the_frontier():
    near = near_frontier(np.array([0.5, 0.9, 0.6]), np.array([1.0, 2.0, 3.0]), np.ones(3, bool))
    assert near.tolist() == [True, True, False]
    assert near_frontier(np.array([0.5]), np.ones(1), np.zeros(1, bool)).tolist() == [False]


def test_draws_follow_their_chances():
    chances = np.array([0.0, 0.25, 0.75])
    rng = random.Random(0)
    seen = np.bincount([draw(chances, rng) for _ in range(4000)], minlength=3) / 4000
    assert seen[0] == 0
    np.testing.assert_allclose(seen, chances, atol=0.03)
