"""Fitting what answers say for themselves: the chance that an answer is right, from its text next to the question's.

Every query's answers are scored by learners that saw none of its samples, so that a stop rule fitted on the scores meets
scores of the same quality when it is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.router.answer_features import AnswerFeatures, Question, answer_features
from rheostat.router.answer_score import AnswerScorer, Records, answer_key, log_odds
from rheostat.router.booster_text import parse_booster
from rheostat.router.trees import Trees
from rheostat.training.boosting import fit_booster
from rheostat.training.expected_rewards import Answered
from rheostat.training.outcomes import Array

FOLDS = 4
ROUNDS = 100
MIN_ANSWERS = 100  # fewer teach nothing about form
MIN_QUERIES = 10  # so that there are some in every fold
MIN_LEAF_SHARE = 0.003
SHRINK = 3.0  # samples' worth of the overall mean behind every record
MAX_RECORDS = 4096
_SETTINGS = {
    "learning_rate": 0.1,
    "num_leaves": 15,
    "max_depth": 4,  # what is served goes down all trees at once, a level at a time
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
}


class Scored(NamedTuple):
    """(n, A) log-odds of the answers, all 0 where nothing could be learned, and the scorer for queries to come."""

    scores: Array
    scorer: AnswerScorer | None


@dataclass(frozen=True, slots=True)
class _Said:
    """All answers of all items in one table; arrays are (p,) unless said otherwise.

    Attributes:
        item, code: which answer of which item.
        key: `answer_key` of its text.
        form: (p, f) its features.
        prior: (p, m) what is known of its item's query.
        weight: its share of the item's samples.
        reward: its mean reward.
    """

    item: npt.NDArray[np.intp]
    code: npt.NDArray[np.intp]
    key: npt.NDArray[np.int64]
    form: Array
    prior: Array
    weight: Array
    reward: Array


def answer_scores(
    answers: Sequence[Sequence[str]], texts: Sequence[str | None], answered: Answered, seen: npt.NDArray[np.bool_], *, seed: int
) -> Scored:
    """Score every answer of every item.

    Args:
        answers: of each of n items, by answer number; empty where their texts are not known.
        texts: of each item's question, None where unknown.
        answered: what was sampled for the items; its scores are not looked at.
        seen: (n,) items whose rewards may be looked at.
        seed: of the folds and the learners.
    """
    scores = np.zeros(answered.rewards.shape)
    if len(np.unique(answered.query[seen])) < MIN_QUERIES or not answers:
        return Scored(scores, None)
    said = _said(answers, texts, answered)
    mine = seen[said.item]
    if mine.sum() < MIN_ANSWERS:
        return Scored(scores, None)
    fold = answered.folds(FOLDS, seed)[said.item]
    record = _cross_recorded(said, mine, fold)
    for number in range(FOLDS):
        fitting, held = (np.flatnonzero(mine & side) for side in (fold != number, fold == number))
        scores[said.item[held], said.code[held]] = log_odds(_trees(said, record, fitting, seed), _rows(said, record, held))
    scorer = AnswerScorer(_trees(said, record, np.flatnonzero(mine), seed), _records(said, mine))
    others = np.flatnonzero(~mine)
    scores[said.item[others], said.code[others]] = log_odds(scorer.trees, _rows(said, record, others))
    return Scored(scores, scorer)


def scored_by(scorer: AnswerScorer, answers: Sequence[Sequence[str]], texts: Sequence[str | None], priors: Array, n_answers: int) -> Array:
    """(n, n_answers) scores, as served, of the answers to n queries with (n, m) priors; 0 where a query has no such answer."""
    scores = np.zeros((len(answers), n_answers))
    for row, given in enumerate(answers):
        if given:
            scores[row, : len(given)] = scorer.scores(given, Question.of(texts[row]), priors[row].tolist())
    return scores


def _cross_recorded(said: _Said, mine: npt.NDArray[np.bool_], fold: npt.NDArray[np.intp]) -> Array:
    """(p, 2) records of answers that may be looked at from the other folds, of the rest from all that may be."""
    record = _records(said, mine).of(said.key)
    for number in range(FOLDS):
        held = mine & (fold == number)
        record[held] = _records(said, mine & (fold != number)).of(said.key[held])
    return record


def _said(answers: Sequence[Sequence[str]], texts: Sequence[str | None], answered: Answered) -> _Said:
    shares = answered.shares
    item, code = np.nonzero(shares)
    questions = {number: Question.of(texts[number]) for number in np.unique(item)}
    spoken = [answers[at][which] for at, which in zip(item, code, strict=True)]
    form = np.array([answer_features(text, questions[at]) for text, at in zip(spoken, item, strict=True)], dtype=np.float64)
    return _Said(
        item=item,
        code=code,
        key=np.array([answer_key(text) for text in spoken], dtype=np.int64),
        form=form.reshape(len(item), len(AnswerFeatures._fields)),
        prior=answered.known[item],
        weight=shares[item, code],
        reward=answered.rewards[item, code],
    )


def _rows(said: _Said, record: Array, rows: npt.NDArray[np.intp]) -> Array:
    """Rows for a scorer: the features of an answer, its record, the prior."""
    return np.column_stack([said.form[rows], record[rows], said.prior[rows]])


def _records(said: _Said, fitting: npt.NDArray[np.bool_]) -> Records:
    """Records of the answers that were seen most."""
    keys, where = np.unique(said.key[fitting], return_inverse=True)
    seen: Array = np.bincount(where.reshape(-1), weights=said.weight[fitting]).astype(np.float64)
    right: Array = np.bincount(where.reshape(-1), weights=(said.weight * said.reward)[fitting]).astype(np.float64)
    otherwise = float(right.sum() / seen.sum())
    often = np.sort(np.argsort(-seen, kind="stable")[:MAX_RECORDS])
    return Records(keys[often], ((right + SHRINK * otherwise) / (seen + SHRINK))[often], seen[often], otherwise)


def _trees(said: _Said, record: Array, rows: npt.NDArray[np.intp], seed: int) -> Trees:
    leaf = max(5, round(MIN_LEAF_SHARE * len(rows)), min(20, len(rows) // 20))
    settings = _SETTINGS | {"min_data_in_leaf": leaf}
    table, reward, weight = _rows(said, record, rows), said.reward[rows], said.weight[rows]
    booster = fit_booster(table, reward, weight, settings=settings, rounds=ROUNDS, seed=seed)
    return parse_booster(booster.model_to_string()).trees
