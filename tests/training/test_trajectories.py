"""Runs advanced together, held against the votes and rules that serving counts one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.policies.base import Candidate, Evidence
from rheostat.policies.evidence import count_answers
from rheostat.policies.learned_stop import VOTE_FEATURES, vote_features
from rheostat.policies.stopping import parse_rule
from rheostat.training.stop_curves import RULES, stopped
from rheostat.training.trajectories import Trajectories, random_orders, trajectories

CODES = st.lists(st.integers(-1, 3), min_size=2, max_size=9)
WORTH = np.array([1.0, 0.0, 0.5, 0.25])
SAID = np.array([2.0, -1.0, 0.5, -0.25])


def follow(codes: list[int]) -> Trajectories:
    return trajectories(np.array([codes], dtype=np.int16), WORTH[None, :])


def candidates(codes: list[int], logprobs: list[float] | None = None) -> tuple[Candidate, ...]:
    answers = [None if code < 0 else str(code) for code in codes]
    given = logprobs or [None] * len(codes)
    return tuple(
        Candidate(index=at, model="", text="", answer=answer, tokens=0, mean_logprob=logprob)
        for at, (answer, logprob) in enumerate(zip(answers, given, strict=True))
    )


@given(CODES)
@settings(max_examples=60, deadline=None)
def test_votes_after_every_sample_are_those_that_serving_counts(codes):
    runs = follow(codes)
    for drawn in range(1, len(codes) + 1):
        votes = count_answers(candidate.answer for candidate in candidates(codes[:drawn]))
        assert (runs.first[0, drawn - 1], runs.second[0, drawn - 1]) == (votes.v1, votes.v2)
        assert runs.value[0, drawn - 1] == (WORTH[int(votes.leader)] if votes.leader is not None else 0.0)


@given(st.lists(st.tuples(st.integers(-1, 3), st.floats(-20, 0) | st.just(float("nan"))), min_size=2, max_size=9))
@settings(max_examples=60, deadline=None)
def test_the_learned_rule_sees_the_same_in_training_and_in_serving(samples):
    codes, logprobs = map(list, zip(*samples, strict=True))
    runs = trajectories(np.array([codes], dtype=np.int16), WORTH[None, :], np.array([logprobs]), scores=SAID[None, :])
    for drawn in range(1, len(codes) + 1):
        trained = [float(getattr(runs, name)[0, drawn - 1]) for name in VOTE_FEATURES]
        assert trained == pytest.approx(vote_features(candidates(codes[:drawn], logprobs[:drawn]), lambda answer: SAID[int(answer)]))


@given(CODES)
@settings(max_examples=30, deadline=None)
def test_what_answers_are_expected_to_be_worth_is_told_of_the_leader_and_is_else_the_reward(codes):
    one = np.array([codes], dtype=np.int16)
    told = trajectories(one, WORTH[None, :], expected=1.0 - WORTH[None, :])
    led = told.first > 0
    np.testing.assert_allclose(told.expected[led], 1.0 - told.value[led])
    np.testing.assert_array_equal(follow(codes).expected, follow(codes).value)


def test_log_probabilities_that_nobody_knows_are_zero():
    runs = follow([0, 0, 1])
    assert not runs.logprob.any()
    assert not runs.leader_logprob.any()


@given(CODES)
@settings(max_examples=25, deadline=None)
def test_every_published_rule_stops_where_the_served_rule_does(codes):
    runs = follow(codes)
    for curve in RULES.values():
        for spelling, stops in curve(runs):
            rule = parse_rule(spelling)
            served = [
                bool(rule(Evidence(candidates=candidates(codes[:n]), chosen=0, why="", planned=len(codes))))
                for n in range(1, len(codes) + 1)
            ]
            assert stops[0].tolist() == served, spelling


def test_a_random_order_begins_with_every_sample_that_is_there():
    count = np.arange(1, 9)
    orders = random_orders(count, 8, np.random.default_rng(0))
    for order, present in zip(orders, count, strict=True):
        assert sorted(order[:present]) == list(range(present))
        assert sorted(order) == list(range(8))


def test_runs_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, 4, (30, 8)).astype(np.int16)
    together = trajectories(codes, np.tile(WORTH, (30, 1)))
    for row in (0, 7, 29):
        alone = follow(codes[row].tolist())
        for name in Trajectories.__slots__:
            np.testing.assert_array_equal(getattr(together.rows(np.array([row])), name), getattr(alone, name))


def test_stopping_takes_the_first_chance_and_at_the_latest_the_end():
    runs = trajectories(np.array([[1, 0, 0], [0, 0, 0]], dtype=np.int16), np.tile(WORTH, (2, 1)))
    result = stopped(runs, np.array([[False, False, False], [False, True, True]]))
    assert result.samples.tolist() == [3.0, 2.0]
    assert result.reward.tolist() == [1.0, 1.0]
