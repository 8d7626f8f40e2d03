from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.router.answer_features import Question
from rheostat.router.base import Array
from rheostat.router.calibration import logit
from rheostat.router.stopping import LIMIT, N_LEADS, N_VOTES, StopModel, StopPolicy, pairs, stop_arrays, stops_from, terms
from tests.router.test_answer_score import scorer

ACTION = "m/self_consistency(k=4,stop=learned)@64"


def always(n_prior: int, value: float = 1.0) -> Array:
    """Weights by which stopping is worth `value` more than going on, whatever the votes."""
    weights = np.zeros((N_LEADS, pairs(N_VOTES + n_prior).shape[1]))
    weights[:, 0] = value
    return weights


def drawn_weights(n_prior: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=always(n_prior).shape)


MODELS = {
    ACTION: StopModel(StopPolicy((None, drawn_weights(2), None), 2), (0, 2), scorer(2)),
    "n/x@1": StopModel(StopPolicy((drawn_weights(0),), 0), ()),
}


def votes(n: int, n_prior: int, seed: int = 0) -> Array:
    rows = np.random.default_rng(seed).normal(size=(n, N_VOTES + n_prior))
    rows[:, :5] = np.random.default_rng(seed).integers(0, 4, size=(n, 5))
    rows[:, 0] += rows[:, 1]
    return rows


def test_it_stops_at_the_end_and_never_where_it_may_not_look():
    policy = StopPolicy((None, always(2, 11.0), None), 2)
    rows = votes(3, 2)
    assert (policy.advantage(rows, 1) == -np.inf).all()
    assert policy.advantage(rows, 2) == pytest.approx([11.0] * 3)
    assert (policy.advantage(rows, 4) == np.inf).all()


def test_the_weights_are_those_of_the_lead():
    weights = always(0) * np.arange(N_LEADS)[:, None]
    rows = votes(50, 0)
    lead = np.minimum(rows[:, 0] - rows[:, 1], N_LEADS - 1)
    np.testing.assert_allclose(StopPolicy((weights,), 0).advantage(rows, 1), lead)


@given(st.integers(0, 3), st.floats(-1e6, 0.0), st.floats(-50, 50), st.integers(1, 32))
@settings(max_examples=50, deadline=None)
def test_terms_are_bounded_whatever_was_seen(n_prior, logprob, score, drawn):
    rows = votes(4, n_prior)
    rows[:, :5] = np.minimum(rows[:, :5], drawn)
    rows[:, 5:7], rows[:, 7:9] = logprob, score
    found = terms(rows, drawn)
    assert found.shape == (4, pairs(N_VOTES + n_prior).shape[1])
    assert np.abs(found).max() <= max(1.0, LIMIT) ** 2


def test_what_is_not_known_has_no_terms():
    rows = votes(6, 2)
    rows[:, 5:9] = 0.0
    about = np.isin(pairs(N_VOTES + 2), range(5, 9)).any(axis=0)
    assert not terms(rows, 3)[:, about].any()
    assert terms(rows, 3)[:, ~about].any(axis=1).all()


@pytest.mark.parametrize(("feature", "logprobs", "scores"), [(0, False, False), (6, True, False), (8, False, True), (10, False, False)])
def test_a_policy_reads_what_has_a_weight(feature, logprobs, scores):
    weights = np.zeros_like(always(2))
    weights[2, np.flatnonzero((pairs(N_VOTES + 2) == feature).any(axis=0))[0]] = 0.5
    policy = StopPolicy((None, weights), 2)
    assert (policy.reads_logprobs, policy.reads_scores) == (logprobs, scores)


def test_the_prior_is_what_the_predictor_says_of_the_named_actions():
    assert MODELS[ACTION].prior(np.array([0.2, 0.9, 0.5])) == pytest.approx(tuple(logit(np.array([0.2, 0.5]))))


def test_answers_are_scored_with_the_text_and_the_prior_of_the_query():
    p_correct = np.array([0.2, 0.9, 0.5])
    score = MODELS[ACTION].score("What is 4 + 5?", p_correct)
    assert score is not None
    assert (score.question, score.prior) == (Question.of("What is 4 + 5?"), MODELS[ACTION].prior(p_correct))
    assert score("9") == 2.0
    assert MODELS["n/x@1"].score("What is 4 + 5?", p_correct) is None


def test_models_come_back_from_arrays_as_they_were():
    arrays, layout = stop_arrays(MODELS)
    back = stops_from(arrays, layout, 3)
    assert list(back) == list(MODELS)
    for action, model in MODELS.items():
        rows = votes(20, model.policy.n_prior)
        assert back[action].priors == model.priors
        for drawn in (1, 2, 3, 4, 5):
            np.testing.assert_array_equal(back[action].policy.advantage(rows, drawn), model.policy.advantage(rows, drawn))
    restored, question = back[ACTION].scorer, Question.of("What is 4 + 5?")
    assert restored is not None
    np.testing.assert_array_equal(restored.scores(["9", "yes"], question, (0.1, 0.2)), scorer(2).scores(["9", "yes"], question, (0.1, 0.2)))
    assert back["n/x@1"].scorer is None


def test_a_prior_from_an_action_that_is_not_there_is_refused():
    arrays, layout = stop_arrays(MODELS)
    with pytest.raises(ValueError, match="of 2"):
        stops_from(arrays, layout, 2)
    with pytest.raises(KeyError):
        stops_from({}, layout, 3)


def test_weights_of_other_terms_are_refused():
    arrays, layout = stop_arrays(MODELS)
    arrays["stop0.1"] = arrays["stop0.1"][:, :-1]
    with pytest.raises(ValueError, match="weights of shape"):
        stops_from(arrays, layout, 3)


def test_a_rule_over_other_features_of_the_vote_is_refused():
    arrays, layout = stop_arrays(MODELS)
    for described in ({"votes": 7}, {}):
        old = [{key: value for key, value in entry.items() if key != "votes"} | described for entry in layout]
        with pytest.raises(ValueError, match="other features of the vote"):
            stops_from(arrays, old, 3)
