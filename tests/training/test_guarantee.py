"""Learn then test, held against policies whose accuracy is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import DatasetError
from rheostat.training.guarantee import (
    bernstein_p_value,
    betting_p_value,
    certify,
    certify_segments,
    certify_weighted,
    p_values,
    walk,
)

TRUTH = np.linspace(0.55, 0.9, 36)


def drawn(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 36) rewards of policies of known accuracy: one threshold a query, so that they rise and fall together."""
    return (rng.random((n, 1)) < TRUTH).astype(float)


def test_binary_promises_are_broken_at_most_delta_of_the_time():
    rng = np.random.default_rng(0)
    broken = [c.index is not None and TRUTH[c.index] < 0.7 for c in (certify(drawn(300, rng), target=0.7) for _ in range(400))]
    assert 0.04 < np.mean(broken) <= 0.1 + 2 * np.sqrt(0.09 / 400)


def test_promises_on_expected_rewards_are_broken_at_most_delta_of_the_time():
    rng = np.random.default_rng(1)
    broken = []
    for _ in range(300):
        certificate = certify(0.5 * drawn(300, rng) + 0.5 * drawn(300, rng), target=0.7)
        broken.append(certificate.index is not None and TRUTH[certificate.index] < 0.7)
    assert np.mean(broken) <= 0.1 + 2 * np.sqrt(0.09 / 300)


@pytest.mark.parametrize("bound", ["betting", "bernstein"])
def test_weighted_promises_hold_under_another_logging_policy(bound):
    rng = np.random.default_rng(2)
    truth, broken, found = np.array([0.5, 0.65, 0.8]), 0, 0
    for _ in range(200):
        action = rng.integers(0, 3, 1500)
        reward = (rng.random(1500) < truth[action]).astype(float)
        values = 3.0 * reward[:, None] * (action[:, None] == np.arange(3))
        certificate = certify_weighted(values, upper=np.full(3, 3.0), target=0.65, bound=bound)
        found += certificate.feasible
        broken += certificate.index == 0
    assert broken == 0
    assert found > 180


@given(st.integers(2, 60), st.floats(0.05, 0.95), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_p_values_fall_as_more_is_right_and_the_exact_test_is_no_weaker(n, target, right):
    total = np.arange(n + 1.0)
    for binary in (True, False):
        p = p_values(total, np.array(float(n)), target, binary=binary)
        assert (np.diff(p) <= 1e-12).all()
        assert (p >= 0).all()
        assert (p <= 1).all()
    assert (p_values(total, np.array(float(n)), target, binary=True) <= p + 1e-9).all()


@pytest.mark.parametrize("test", [betting_p_value, bernstein_p_value])
def test_p_values_of_a_true_hypothesis_are_small_no_more_often_than_they_say(test):
    rng = np.random.default_rng(3)
    p = np.array([test((rng.random(200) < 0.3).astype(float) * rng.random(200), 0.15, 0.1) for _ in range(400)])
    for level in (0.05, 0.1, 0.3):
        assert (p <= level).mean() <= level + 2 * np.sqrt(level * (1 - level) / 400)


def test_betting_needs_fewer_rows_than_the_bernstein_bound():
    rng = np.random.default_rng(4)
    values = 0.2 * (rng.random(800) < 0.7)
    assert betting_p_value(values, 0.125, 0.1) < bernstein_p_value(values, 0.125)


def test_walk_stops_at_the_first_failure_from_the_dear_end():
    p = np.array([[0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    assert walk(p, 0.1).index.tolist() == [2, -1, 0]


def test_a_target_beyond_reach_is_infeasible_and_says_what_is_attainable():
    certificate = certify(drawn(500, np.random.default_rng(5)), target=0.95)
    assert not certificate.feasible
    assert certificate.low < certificate.accuracy < 0.95
    assert abs(certificate.accuracy - TRUTH[-1]) < 0.06


def test_lower_bound_meets_the_target_exactly_when_the_policy_passes():
    rewards = drawn(500, np.random.default_rng(6))
    certificate = certify(rewards, target=0.75)
    assert certificate.feasible
    assert certificate.low >= 0.75 - 1e-6
    assert certify(rewards[:, [certificate.index]], target=certificate.low + 1e-4).index is None


def test_stricter_promises_never_get_cheaper():
    rewards = drawn(800, np.random.default_rng(7))
    by_target = [certify(rewards, target=target).index for target in (0.6, 0.7, 0.8)]
    by_delta = [certify(rewards, target=0.7, delta=delta).index for delta in (0.3, 0.1, 0.01)]
    assert by_target == sorted(by_target)
    assert by_delta == sorted(by_delta)


def test_segments_are_promised_one_by_one_and_small_ones_are_infeasible():
    rewards = np.ones((405, 3))
    rewards[:200, 0] = 0
    certificates = certify_segments(rewards, ["hard"] * 200 + ["easy"] * 200 + ["rare"] * 5, target=0.8)
    assert {name: certificate.index for name, certificate in certificates.items()} == {"easy": 0, "hard": 1, "rare": None}
    assert certificates["rare"].accuracy == 1.0


@pytest.mark.parametrize(
    ("rewards", "options", "words"),
    [
        (np.zeros((0, 2)), {}, "no calibration queries"),
        (np.full((3, 2), np.nan), {}, "not a finite number"),
        (np.full((3, 2), 2.0), {}, "scale them"),
        (np.ones((3, 2)), {"target": 1.0}, "target is 1"),
        (np.ones((3, 2)), {"delta": 0.0}, "delta is 0"),
    ],
)
def test_what_cannot_be_tested_is_refused(rewards, options, words):
    with pytest.raises(DatasetError, match=words):
        certify(rewards, **{"target": 0.5, **options})


def test_a_weight_above_its_bound_is_refused():
    with pytest.raises(DatasetError, match="upper"):
        certify_weighted(np.full((3, 1), 2.0), upper=np.ones(1), target=0.5)


def test_one_row_proves_nothing():
    assert bernstein_p_value(np.ones(1), 0.5) == 1.0
