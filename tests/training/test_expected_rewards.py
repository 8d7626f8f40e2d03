"""Rewards without their noise, on items whose chances are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rheostat.training.expected_rewards import Answered, expected_rewards

SAMPLES = 16


def world(n: int, seed: int = 0) -> tuple[Answered, np.ndarray]:
    """Two answers an item with shares drawn evenly; the first is right as often as its share, by a toss. And these chances."""
    rng = np.random.default_rng(seed)
    chance = rng.uniform(0.1, 0.9, n)
    codes = np.where(rng.random((n, SAMPLES)) < chance[:, None], 0, 1).astype(np.int16)
    right = (rng.random(n) < chance).astype(float)
    answered = Answered(
        codes, np.full(n, SAMPLES), np.column_stack([right, 1 - right]), np.arange(n), rng.normal(size=(n, 1)), np.zeros((n, 2))
    )
    return answered, np.column_stack([chance, 1 - chance])


def test_expectations_are_nearer_to_the_chances_than_rewards_are():
    answered, chances = world(1500)
    seen = np.ones(1500, dtype=bool)
    expected = expected_rewards(answered, seen, seed=0)
    given = answered.shares > 0
    assert np.abs(expected - chances)[given].mean() < 0.4 * np.abs(answered.rewards - chances)[given].mean()
    assert ((expected >= 0) & (expected <= 1)).all()


def test_rewards_that_may_not_be_looked_at_stay_as_they_are_and_teach_nothing():
    answered, _ = world(400)
    seen = np.arange(400) < 200
    other = answered.rewards.copy()
    other[200:] = 1 - other[200:]
    first, second = (expected_rewards(each, seen, seed=0) for each in (answered, replace(answered, rewards=other)))
    np.testing.assert_array_equal(first[:200], second[:200])
    np.testing.assert_array_equal(second[200:], other[200:])


def test_an_answer_is_not_judged_by_others_of_its_query():
    answered, _ = world(400)
    # Item 0 and item 1 ask the same, and only their rewards are changed: what others teach of them stays.
    query = np.maximum(answered.query - 1, 0)
    same = replace(answered, query=query)
    flipped = answered.rewards.copy()
    flipped[:2] = 1 - flipped[:2]
    seen = np.ones(400, dtype=bool)
    before, after = (expected_rewards(each, seen, seed=0)[:2] for each in (same, replace(same, rewards=flipped)))
    given = same.shares[:2] > 0
    np.testing.assert_allclose((after - before)[given], 0.1 * (flipped[:2] - answered.rewards[:2])[given])


def test_a_score_that_knows_is_believed():
    answered, _ = world(1500)
    told = replace(answered, scores=4 * answered.rewards - 2)
    seen = np.ones(1500, dtype=bool)
    given = answered.shares > 0
    assert np.abs(expected_rewards(told, seen, seed=0) - answered.rewards)[given].mean() < 0.1


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_or_no_items_give_something_all_the_same(n):
    answered, _ = world(8)
    expected = expected_rewards(answered, np.arange(8) < n, seed=0)
    assert expected.shape == answered.rewards.shape
    assert np.isfinite(expected).all()


def test_shares_count_unparsed_samples():
    codes = np.array([[0, 0, 1, -1]], dtype=np.int16)
    one = Answered(codes, np.array([4]), np.zeros((1, 2)), np.zeros(1, np.intp), np.zeros((1, 0)), np.zeros((1, 2)))
    np.testing.assert_allclose(one.shares, [[0.5, 0.25]])
