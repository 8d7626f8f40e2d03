"""Scores of answers as served."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.router.answer_features import AnswerFeatures, Question
from rheostat.router.answer_score import (
    LIMIT,
    N_FEATURES,
    AnswerScorer,
    Records,
    ScoredQuery,
    answer_key,
    scorer_arrays,
    scorer_from,
)
from rheostat.router.trees import Trees

QUESTION = Question.of("What is 4 + 5?")
RIGHT = len(AnswerFeatures._fields)  # the column of how often an answer was right


def scorer(n_prior: int = 0) -> AnswerScorer:
    """Log-odds of 2 for answers that were right more than half of the time before, else -2."""
    assert n_prior >= 0
    trees = Trees(
        feature=np.array([[RIGHT, 0, 0]], np.int32),
        threshold=np.array([[0.5, 0.0, 0.0]]),
        left=np.array([[1, 1, 2]], np.int32),
        right=np.array([[2, 1, 2]], np.int32),
        value=np.array([[0.0, -2.0, 2.0]]),
    )
    keys = np.array([answer_key("9"), answer_key("yes")], dtype=np.int64)
    order = np.argsort(keys)
    return AnswerScorer(trees, Records(keys[order], np.array([0.9, 0.2])[order], np.array([7.0, 9.0])[order], 0.4))


def test_an_answers_record_decides_and_an_answer_without_one_is_like_all_others():
    assert scorer().scores(["9", "yes", "8"], QUESTION, ()).tolist() == [2.0, -2.0, -2.0]


def test_records_know_an_answer_however_it_is_spelled():
    records = scorer().records
    np.testing.assert_allclose(records.of(np.array([answer_key(" YES "), answer_key("no")])), [[0.2, 9.0], [0.4, 0.0]])


def test_without_records_every_answer_is_like_all_others():
    nothing = Records(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), 0.3)
    np.testing.assert_allclose(nothing.of(np.array([1, 2])), [[0.3, 0.0], [0.3, 0.0]])


def test_log_odds_are_bounded():
    tall = scorer()
    trees = Trees(tall.trees.feature, tall.trees.threshold, tall.trees.left, tall.trees.right, tall.trees.value * 100)
    assert np.abs(AnswerScorer(trees, tall.records).scores(["9", "8"], QUESTION, ())).tolist() == [LIMIT, LIMIT]


def test_one_answer_at_a_time_scores_as_many_do():
    query = ScoredQuery(scorer(2), QUESTION, (0.5, -0.5))
    together = scorer(2).scores(["9", "yes", "9"], QUESTION, (0.5, -0.5))
    assert [query(answer) for answer in ("9", "yes", "9")] == together.tolist()


def test_a_scorer_comes_back_from_arrays_and_a_broken_one_is_refused():
    arrays = scorer_arrays(scorer())
    assert all(array.dtype.kind in "fiu" for array in arrays.values())
    assert scorer_from(arrays, 0).scores(["9", "8"], QUESTION, ()).tolist() == [2.0, -2.0]
    with pytest.raises(ValueError, match="leads nowhere"):
        scorer_from(arrays | {"trees.feature": np.full((1, 3), N_FEATURES, np.int32)}, 0)
    with pytest.raises(ValueError, match="not in order"):
        scorer_from(arrays | {"records.keys": arrays["records.keys"][::-1]}, 0)
    with pytest.raises(KeyError):
        scorer_from({}, 0)
