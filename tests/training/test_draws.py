"""Draws of actions from a log, against the labels that replay gives."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from rheostat.data.schema import Action
from rheostat.router.stopping import N_VOTES, SCORES, StopModel, StopPolicy, pairs
from rheostat.training.draws import Draws, draw
from rheostat.training.replay import label
from tests.router.test_answer_score import scorer
from tests.router.test_stopping import always
from tests.training.fitting import simulated_log

SPELLINGS = (
    "small/direct@64",
    "small/cot@192",
    "small/self_consistency(k=4)@768",
    "small/self_consistency(k=8,stop=lead(2))@1536",
    "small/self_consistency(k=8,stop=learned)@1536",
    "small/best_of_n(n=4)@768",
    "small/best_of_n(by=verifier,n=4)@768",
    "large/cot@192",
)
ACTIONS = [Action.parse(spelling) for spelling in SPELLINGS]
N = 300


@functools.cache
def draws(seed: int = 0) -> Draws:
    return draw(simulated_log(N), ACTIONS, np.arange(N), p_correct=np.full((N, len(ACTIONS)), 0.5), stops={}, seed=seed)


def test_draws_have_the_mean_of_the_labels():
    table = label(simulated_log(N), [action for action in ACTIONS if "learned" not in str(action)])
    known = [at for at, spelling in enumerate(SPELLINGS) if "learned" not in spelling]
    many = [draws(seed) for seed in range(6)]
    reward = np.mean([each.reward[:, known].mean(axis=0) for each in many], axis=0)
    tokens = np.mean([each.tokens[:, known].mean(axis=0) for each in many], axis=0)
    assert reward == pytest.approx(table.reward.mean(axis=0), abs=0.03)
    assert tokens == pytest.approx(table.tokens.mean(axis=0), rel=0.05)


def test_equal_numbers_are_equal_answers_whatever_the_model():
    found = draws()
    same = (found.answers[:, 1] == found.answers[:, 7]) & (found.answers[:, 1] >= 0)
    assert same.any()
    np.testing.assert_array_equal(found.reward[same, 1], found.reward[same, 7])


def test_an_answer_that_was_not_read_is_never_right():
    found = draws()
    assert not found.reward[found.answers < 0].any()


def test_actions_get_samples_of_their_own_while_there_are_enough():
    two = [Action.parse("small/self_consistency(k=8)@1536"), Action.parse("small/self_consistency(k=8,waves=8)@1536")]
    found = draw(simulated_log(N), two, np.arange(N), p_correct=np.zeros((N, 2)), stops={})
    sampled = simulated_log(N).sampler_of(two[0])
    np.testing.assert_allclose(found.tokens.sum(axis=1), sampled.tokens.sum(axis=1))


def test_a_seed_gives_the_same_draw():
    again = draw(simulated_log(N), ACTIONS, np.arange(N), p_correct=np.full((N, len(ACTIONS)), 0.5), stops={}, seed=0)
    np.testing.assert_array_equal(again.answers, draws().answers)


def test_a_rule_that_reads_scores_is_told_them():
    vote = Action.parse("small/self_consistency(k=8,stop=learned)@1536")
    weights = always(0, 0.0)
    weights[:, np.flatnonzero((pairs(N_VOTES) == SCORES[0]).any(axis=0))[0]] = 1.0
    # Of the answers that the scorer knows one is likely, all others are not: only for that one the vote ends at its first look.
    model = StopModel(StopPolicy((weights,) * 7, 0), (), scorer())
    found = draw(simulated_log(N), [vote], np.arange(N), p_correct=np.zeros((N, 1)), stops={str(vote): model})
    plain = draw(simulated_log(N), [vote], np.arange(N), p_correct=np.zeros((N, 1)), stops={})
    answers = simulated_log(N).sampler_of(vote).answers
    never = np.array(["9" not in given for given in answers])
    assert never.any()
    full = draw(simulated_log(N), [Action.parse("small/self_consistency(k=8)@1536")], np.arange(N), p_correct=np.zeros((N, 1)), stops={})
    np.testing.assert_allclose(found.tokens[never], full.tokens[never])
    assert plain.tokens.sum() < full.tokens.sum()
