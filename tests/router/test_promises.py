"""Promised paths, held against policies whose accuracy is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from rheostat.router.promises import Trial, least_queries, lower_bounds, queries_needed, rounded_down

TRUTH = np.linspace(0.55, 0.9, 36)
MULTIPLIER = np.arange(36.0)
SPLITS = 200


def drawn(n: int, rng: np.random.Generator, answers: int = 1) -> np.ndarray:
    """(n, 36) mean rewards of some answers each: half the queries are harder, and neighbours on the path mostly answer alike."""
    chance = TRUTH + rng.choice([-0.1, 0.1], (n, 1, 1))
    return (rng.random((n, answers, 1)) < chance).mean(axis=1)


@pytest.mark.parametrize("answers", [1, 8])
@pytest.mark.parametrize("confidence", [0.8, 0.9])
def test_promises_are_broken_no_more_often_than_their_confidence_says(answers, confidence):
    rng, delta = np.random.default_rng(answers), 1 - confidence
    broken = []
    for _ in range(SPLITS):
        path = Trial.of(MULTIPLIER, drawn(250, rng, answers), seed=int(rng.integers(1 << 30))).promised(confidence)
        index, holds = path.index_for(0.7)
        broken.append(holds and TRUTH[index] < 0.7)
    assert 0 < np.mean(broken) <= delta + 2 * np.sqrt(delta * (1 - delta) / SPLITS)


def test_promises_are_kept_without_waste_and_the_plug_in_breaks_its_own():
    rng, n, target = np.random.default_rng(3), 400, 0.7
    kept, plug_in = [], []
    for _ in range(SPLITS):
        rewards = drawn(n, rng)
        kept.append(TRUTH[Trial.of(MULTIPLIER, rewards).promised(0.9).index_for(target)[0]])
        plug_in.append(TRUTH[(rewards.mean(axis=0) >= target).argmax()])
    assert 0 < np.mean(kept) - target <= 2 * np.sqrt(target * (1 - target) / n)
    assert (np.array(plug_in) < target).mean() > 0.3


@given(st.integers(0, 1000), st.floats(0.05, 0.99))
@settings(max_examples=50, deadline=None)
def test_a_dearer_policy_never_promises_less_and_more_confidence_never_more(seed, confidence):
    trial = Trial.of(MULTIPLIER, drawn(60, np.random.default_rng(seed)))
    path, surer = trial.promised(confidence), trial.promised((1 + confidence) / 2)
    assert (np.diff(path.low) >= 0).all()
    assert (surer.low <= path.low).all()
    assert path.attainable == path.low.max() < 1


@given(st.integers(0, 1000), st.floats(0.01, 1.0))
@settings(max_examples=50, deadline=None)
def test_the_policy_taken_is_the_cheapest_that_promises_the_target(seed, target):
    path = Trial.of(MULTIPLIER, drawn(80, np.random.default_rng(seed))).promised(0.9)
    index, holds = path.index_for(target)
    assert holds == (target <= path.attainable)
    assert path.low[index] >= min(target, path.attainable)
    assert index == 0 or path.low[index - 1] < min(target, path.attainable)
    assert path.for_target(target) == (MULTIPLIER[index], holds)


@given(st.integers(1, 300), st.floats(0.01, 0.5))
@settings(max_examples=50, deadline=None)
def test_bounds_are_where_the_exact_binomial_test_turns(n, delta):
    right = np.arange(n + 1)
    low = lower_bounds(right, n, delta)
    assert (np.diff(low) > 0).all()
    np.testing.assert_allclose(binom.sf(right[1:] - 1, n, low[1:]), delta, rtol=1e-6)
    assert low[0] == 0


def test_without_queries_nothing_is_promised_and_it_is_said_what_to_do():
    path = Trial.of(MULTIPLIER, np.zeros((0, 36))).promised(0.9)
    assert path.attainable == 0
    assert path.index_for(0.3) == (0, False)
    assert "0 held-out queries" in path.why_not(0.3)
    assert "train on more" in path.why_not(0.3)


def test_what_would_help_an_infeasible_target_is_named():
    rewards = np.zeros((100, 36))
    rewards[:72] = 1.0
    path = Trial.of(MULTIPLIER, rewards).promised(0.9)
    assert "0.7 needs about 863" in path.why_not(0.7)
    assert "will not lift it to 0.9" in path.why_not(0.9)


@given(st.floats(0.3, 0.9), st.floats(0.02, 0.09), st.floats(0.7, 0.99))
@settings(max_examples=50, deadline=None)
def test_the_queries_said_to_be_needed_are_about_enough(target, above, confidence):
    needed = queries_needed(target, confidence, target + above)
    assert needed >= least_queries(target, 1 - confidence)
    enough = 2 * needed + 60
    right = np.array([round((target + above) * enough)])
    assert lower_bounds(right, enough, 1 - confidence)[0] >= target


@pytest.mark.parametrize(("target", "accuracy"), [(0.7, 0.7), (0.8, 0.7), (1.0, 1.0)])
def test_no_number_of_queries_lifts_a_policy_to_what_it_is_not(target, accuracy):
    assert queries_needed(target, 0.9, accuracy) is None


@given(st.floats(0.0, 1.0))
def test_no_digit_shown_promises_more(accuracy):
    assert accuracy - 0.0011 < float(rounded_down(accuracy)) <= accuracy


def test_what_missed_by_a_hair_needs_at_least_one_query_more():
    rewards = np.zeros((200, 36))
    rewards[:170] = 1.0
    path = Trial.of(MULTIPLIER, rewards).promised(0.9)
    assert path.needed(path.attainable + 1e-6) == 201
