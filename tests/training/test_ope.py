"""Off-policy estimators held against a logged bandit whose true value is known."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import DatasetError
from rheostat.training.ope import (
    Evaluated,
    LoggedBandit,
    bernstein_interval,
    clipped_ips,
    diagnostics,
    dm,
    dr,
    evaluate_policy,
    ips,
    switch_dr,
)

N, SEEDS = 500, 400
MEANS = np.array([[0.2, 0.6, 0.9], [0.7, 0.5, 0.3]])
LOGGING = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
EVALUATED = np.array([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
TRUTH = float((EVALUATED * MEANS).sum(axis=1).mean())


def logged(seed: int, n: int = N) -> tuple[LoggedBandit, np.ndarray]:
    """Two kinds of queries, three actions; and a reward model fitted on the other half of the rows."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    action = (rng.random((n, 1)) > LOGGING[kind].cumsum(axis=1)).sum(axis=1).clip(0, 2)
    reward = (rng.random(n) < MEANS[kind, action]).astype(float)
    half = np.arange(n) % 2
    q = np.zeros((n, 3))
    for part in (0, 1):
        other = half != part
        for k in (0, 1):
            for a in range(3):
                seen = reward[other & (kind == k) & (action == a)]
                q[(half == part) & (kind == k), a] = (seen.sum() + 1) / (len(seen) + 2)
    return LoggedBandit(action, reward, LOGGING[kind, action], EVALUATED[kind], np.arange(n)), q


@functools.cache
def evaluations() -> list[Evaluated]:
    return [evaluate_policy(*logged(seed)) for seed in range(SEEDS)]


def values(name: str) -> np.ndarray:
    return np.array([found.estimates[name].value for found in evaluations()])


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "switch_dr"])
def test_intervals_cover_the_truth_as_often_as_they_say(name):
    covered = np.mean([e.estimates[name].low <= TRUTH <= e.estimates[name].high for e in evaluations()])
    assert abs(covered - 0.95) <= 0.02 + 2 * np.sqrt(0.95 * 0.05 / SEEDS)


@pytest.mark.parametrize("name", ["ips", "dr"])
def test_unbiased_estimators_have_no_bias_and_bernstein_intervals_always_cover(name):
    found = values(name)
    assert abs(found.mean() - TRUTH) < 3 * found.std() / np.sqrt(SEEDS)
    inside = [e.estimates[name].bernstein[0] <= TRUTH <= e.estimates[name].bernstein[1] for e in evaluations()]
    assert np.mean(inside) >= 0.95


def test_doubly_robust_beats_importance_sampling_in_mean_squared_error():
    error = {name: float(((values(name) - TRUTH) ** 2).mean()) for name in ("dr", "ips", "snips")}
    assert error["dr"] < error["snips"] < error["ips"]


def test_doubly_robust_survives_a_wrong_model_and_the_direct_method_does_not():
    wrong = [(log, np.full_like(q, 0.1)) for log, q in map(logged, range(100))]
    robust = np.array([dr(log, q).mean() for log, q in wrong])
    assert abs(robust.mean() - TRUTH) < 3 * robust.std() / 10
    assert abs(np.mean([dm(log, q).mean() for log, q in wrong]) - TRUTH) > 0.5


def test_clipping_only_lowers_and_a_high_limit_changes_nothing():
    log, q = logged(0)
    assert (clipped_ips(log, 2.0) <= ips(log)).all()
    np.testing.assert_array_equal(clipped_ips(log, 1e9), ips(log))
    np.testing.assert_array_equal(switch_dr(log, q, 1e9), dr(log, q))
    np.testing.assert_array_equal(switch_dr(log, q, 0.0), dm(log, q))


def test_the_logging_policy_itself_has_the_value_it_earned():
    log, q = logged(1)
    own = LOGGING[(log.p_eval[:, 0] > 0.5).astype(int)]
    same = LoggedBandit(log.action, log.reward, log.propensity, own, log.query)
    found = evaluate_policy(same, q)
    assert found.estimates["ips"].value == pytest.approx(log.reward.mean())
    assert found.diagnostics.ess == pytest.approx(N)
    assert found.diagnostics.overlap == pytest.approx(1.0)


def test_too_little_to_go_by_is_refused_without_a_number():
    log, q = logged(2, n=60)
    found = evaluate_policy(log, q)
    assert found.estimates == {}
    assert found.refused is not None
    assert "are needed" in found.refused
    assert evaluate_policy(log, q, min_ess=5).refused is None


def test_actions_that_were_never_tried_show_in_the_overlap():
    log, _ = logged(3)
    never = np.concatenate([np.zeros((N, 3)), np.ones((N, 1))], axis=1)
    found = diagnostics(LoggedBandit(log.action, log.reward, log.propensity, never, log.query))
    assert (found.overlap, found.ess, found.unmatched, found.top_share) == (0.0, 0.0, 1.0, 0.0)


def test_repeated_queries_widen_the_interval():
    log, q = logged(4)
    repeated = LoggedBandit(*(np.repeat(getattr(log, name), 4, axis=0) for name in LoggedBandit.__slots__))
    once, fourfold = evaluate_policy(log, q).estimates["ips"], evaluate_policy(repeated, np.repeat(q, 4, axis=0)).estimates["ips"]
    assert fourfold.value == pytest.approx(once.value)
    assert fourfold.high - fourfold.low == pytest.approx(once.high - once.low, rel=0.01)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_bernstein_intervals_hold_their_mean(terms):
    low, high = bernstein_interval(np.array(terms), 0.0, 1.0)
    assert low <= np.mean(terms) <= high


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("propensity", 0.0, "row 3: propensity is 0"),
        ("propensity", 1.5, "row 3: propensity is 1.5"),
        ("propensity", np.nan, "row 3: propensity is nan"),
        ("reward", -1.0, "row 3: reward is -1"),
        ("action", 7, "row 3: action is 7"),
        ("p_eval", 0.9, "row 3: p_eval"),
    ],
)
def test_a_row_that_does_not_fit_is_named(column, value, words):
    log, _ = logged(5)
    columns = {name: getattr(log, name).copy() for name in LoggedBandit.__slots__}
    columns[column][3] = value
    with pytest.raises(DatasetError, match=words):
        LoggedBandit(**columns)


def test_lengths_that_differ_and_empty_logs_are_refused():
    log, q = logged(6)
    with pytest.raises(DatasetError, match="reward has 4 rows"):
        LoggedBandit(log.action, log.reward[:4], log.propensity, log.p_eval, log.query)
    with pytest.raises(DatasetError, match="no logged rows"):
        LoggedBandit(log.action[:0], log.reward[:0], log.propensity[:0], log.p_eval[:0], log.query[:0])
    with pytest.raises(DatasetError, match="reward model"):
        evaluate_policy(log, q[:, :2])


def test_the_bernstein_interval_is_around_the_value_also_where_one_query_is_asked_most():
    query = np.concatenate([np.zeros(300, int), np.arange(1, 301)])
    reward = np.where(query == 0, 1.0, 0.0)
    log = LoggedBandit(np.zeros(600, int), reward, np.ones(600), np.tile([1.0, 0.0], (600, 1)), query)
    found = evaluate_policy(log, np.zeros((600, 2))).estimates["ips"]
    assert found.value == 0.5
    low, high = found.bernstein
    assert low < found.value < high


@pytest.mark.parametrize(("largest", "given"), [(5.0, True), (20.0, False)])
def test_an_interval_that_holds_for_every_n_is_given_only_where_nothing_was_cut_off(largest, given):
    log, q = logged(0)
    propensity = np.maximum(log.propensity, 0.5)
    propensity[0] = 0.8 / largest
    bounded = replace(log, propensity=propensity)
    found = evaluate_policy(bounded, q, min_ess=0.0).estimates
    assert found["dm"].bernstein is None
    assert [found[name].bernstein is not None for name in ("ips", "dr", "clipped_ips", "switch_dr")] == [True, True, given, given]
