"""Actions with a learned stop rule on a simulated log."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action
from rheostat.router.stopping import N_VOTES, StopModel
from rheostat.training.fit import training_set
from rheostat.training.learned_actions import prior_positions, votes_only_rule, with_learned_stops
from rheostat.training.learners import TrainingSet
from rheostat.training.replay import default_actions, is_learned, label, schedule_of
from rheostat.training.sample_log import SampleLog
from rheostat.training.split import split_rows
from tests.training.fitting import WordEncoder, simulated_frame, simulated_log

COT, VOTE, LEARNED = "small/cot@192", "small/self_consistency(k=8)@1536", "small/self_consistency(k=8,stop=learned(0.005))@1536"


def data(*spellings: str) -> TrainingSet:
    return training_set(label(simulated_log(), [Action.parse(spelling) for spelling in spellings]), WordEncoder())


@functools.cache
def filled() -> tuple[TrainingSet, dict[str, StopModel]]:
    made = data(COT, VOTE, LEARNED)
    return with_learned_stops(made, simulated_log(), split_rows(made.table.texts, seed=0).train, seed=0)


def test_the_default_catalogue_has_one_learned_vote_for_each_model():
    learned = [action for action in default_actions(simulated_log()) if is_learned(action)]
    assert [action.model for action in learned] == simulated_log().models


def test_a_learned_action_is_unknown_until_its_rule_is_fitted_and_known_after():
    before, (after, _) = data(COT, VOTE, LEARNED), filled()
    assert not before.table.weight[:, 2].any()
    assert after.table.known_in_full.all()
    np.testing.assert_array_equal(after.table.reward[:, :2], before.table.reward[:, :2])


def test_it_is_about_as_right_as_the_full_vote_for_far_fewer_tokens():
    table = filled()[0].table
    test = split_rows(table.texts, seed=0).test
    assert table.reward[test, 2].mean() > table.reward[test, 1].mean() - 0.03
    assert table.tokens[test, 2].mean() < 0.75 * table.tokens[test, 1].mean()


def test_the_prior_comes_from_one_chain_and_the_largest_vote_of_the_same_model():
    actions = ("large/cot@9", COT, "small/self_consistency(k=4)@9", VOTE, LEARNED, "small/direct@9")
    assert prior_positions(Action.parse(LEARNED), actions) == (1, 3)
    assert prior_positions(Action.parse(LEARNED), ("large/cot@9", LEARNED)) == ()
    model = filled()[1].get(LEARNED)
    assert model is None or model.priors in ((0, 1), ())


def test_a_rule_comes_with_what_scores_answers_where_it_reads_scores():
    for model in filled()[1].values():
        assert (model.scorer is not None) == model.policy.reads_scores
        if model.scorer is not None:
            score = model.score("What is 4 + 5?", np.full(3, 0.5))
            assert score is not None
            assert np.isfinite(score("9"))


def test_a_log_without_log_probabilities_makes_a_rule_that_does_not_ask_for_them():
    bare = SampleLog.of(simulated_frame().drop("mean_logprob"))
    rule = votes_only_rule(Action.parse(LEARNED), bare)
    assert rule is not None
    assert not rule.reads_logprobs
    told = votes_only_rule(Action.parse(LEARNED), simulated_log())
    assert told is not None
    assert told.reads_logprobs


def test_outcomes_of_queries_that_may_not_be_looked_at_change_no_rule():
    made = data(COT, VOTE, LEARNED)
    train = np.arange(300)
    reward = made.table.reward.copy()
    reward[300:] = 1 - reward[300:]
    changed = TrainingSet(made.features, made.dimension, replace(made.table, reward=reward))
    first, second = (with_learned_stops(each, simulated_log(), train, seed=0)[1] for each in (made, changed))
    assert first.keys() == second.keys()
    rows = np.random.default_rng(0).uniform(0, 8, size=(50, N_VOTES + 2))
    rows[:, 0] += rows[:, 1]
    for name, model in first.items():
        for drawn in (2, 4):
            columns = rows[:, : N_VOTES + model.policy.n_prior]
            np.testing.assert_array_equal(model.policy.advantage(columns, drawn), second[name].policy.advantage(columns, drawn))


def test_a_learned_rule_joined_with_others_is_refused():
    with pytest.raises(ActionError, match="write learned"):
        with_learned_stops(data(COT, "small/self_consistency(k=8,stop=learned|lead(3))@1536"), simulated_log(), np.arange(100), seed=0)


def test_a_rule_from_votes_alone_knows_no_prior_and_may_stop_at_the_looks_only():
    action = Action.parse(LEARNED)
    rule = votes_only_rule(action, simulated_log())
    assert rule is not None
    assert rule.n_prior == 0
    stops = {drawn for drawn, trees in enumerate(rule.steps, start=1) if trees is not None}
    assert stops == set(schedule_of(action).checks[:-1])
