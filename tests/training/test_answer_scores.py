"""Scores of answers, on sums whose right answers can be told by their size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rheostat.training.answer_scores import MIN_ANSWERS, answer_scores, scored_by
from rheostat.training.expected_rewards import Answered

SAMPLES = 6


def sums(n: int, seed: int = 0) -> tuple[list[list[str]], list[str], Answered]:
    """n sums, answered rightly half of the time, otherwise by something too small or by giving up."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(10, 500, size=(n, 2))
    answers = [[str(a + b), str(a), "cannot say"] for a, b in pairs]
    codes = rng.choice(3, p=(0.5, 0.3, 0.2), size=(n, SAMPLES)).astype(np.int16)
    rewards = np.tile([1.0, 0.0, 0.0], (n, 1))
    answered = Answered(codes, np.full(n, SAMPLES), rewards, np.arange(n), np.zeros((n, 1)), np.zeros((n, 3)))
    return answers, [f"What is {a} + {b}?" for a, b in pairs], answered


def test_right_answers_score_above_wrong_ones_on_questions_not_seen():
    answers, texts, answered = sums(300)
    seen = np.arange(300) < 200
    found = answer_scores(answers, texts, answered, seen, seed=0)
    assert found.scorer is not None
    for part in (seen, ~seen):
        scores = np.where(answered.shares[part] > 0, found.scores[part], np.nan)
        assert np.nanmean(scores[:, 0]) > 1
        assert np.nanmean(scores[:, 1:]) < -1


def test_what_is_served_scores_as_in_training():
    answers, texts, answered = sums(200)
    seen = np.arange(200) < 150
    found = answer_scores(answers, texts, answered, seen, seed=0)
    assert found.scorer is not None
    served = scored_by(found.scorer, answers, texts, answered.known, 3)
    held = ~seen[:, None] & (answered.shares > 0)
    np.testing.assert_allclose(served[held], found.scores[held])


def test_rewards_that_may_not_be_looked_at_teach_nothing():
    answers, texts, answered = sums(200)
    seen = np.arange(200) < 120
    other = answered.rewards.copy()
    other[120:] = 1 - other[120:]
    first, second = (answer_scores(answers, texts, each, seen, seed=0) for each in (answered, replace(answered, rewards=other)))
    np.testing.assert_array_equal(first.scores, second.scores)


def test_answers_that_come_again_are_known_without_any_question():
    n = 300
    codes = np.tile(np.array([[0, 0, 1, 1, 1, 1]], np.int16), (n, 1))
    rewards = np.tile([1.0, 0.0], (n, 1))
    answered = Answered(codes, np.full(n, SAMPLES), rewards, np.arange(n), np.zeros((n, 0)), np.zeros((n, 2)))
    found = answer_scores([["no", "so"]] * n, [None] * n, answered, np.ones(n, dtype=bool), seed=0)
    assert (found.scores[:, 0] > 1).all()
    assert (found.scores[:, 1] < -1).all()


@pytest.mark.parametrize("n_seen", [0, MIN_ANSWERS // 5])
def test_too_few_answers_are_not_scored(n_seen):
    answers, texts, answered = sums(50)
    found = answer_scores(answers, texts, answered, np.arange(50) < n_seen, seed=0)
    assert found.scorer is None
    assert not found.scores.any()


def test_answers_whose_texts_nobody_knows_are_not_scored():
    _, texts, answered = sums(50)
    found = answer_scores((), texts, answered, np.ones(50, dtype=bool), seed=0)
    assert found.scorer is None
    assert not found.scores.any()


def test_samples_without_any_answer_are_not_scored():
    _, texts, answered = sums(50)
    silent = replace(answered, codes=np.full_like(answered.codes, -1))
    found = answer_scores([[]] * 50, texts, silent, np.ones(50, dtype=bool), seed=0)
    assert found.scorer is None
