from __future__ import annotations

import numpy as np
import pytest

from rheostat.router.calibration import logit
from rheostat.router.stopping import StopModel, StopPolicy, stop_arrays, stops_from
from tests.router.test_trees import stump

ACTION = "m/self_consistency(k=4,stop=learned)@64"
MODELS = {ACTION: StopModel(StopPolicy((None, stump(), None), 2), (0, 2)), "n/x@1": StopModel(StopPolicy((stump(),), 0), ())}


def test_it_stops_at_the_end_and_never_where_it_may_not_look():
    policy = MODELS[ACTION].policy
    rows = np.zeros((3, 7))
    assert (policy.advantage(rows, 1) == -np.inf).all()
    assert (policy.advantage(rows, 2) == 11.0).all()
    assert (policy.advantage(rows, 4) == np.inf).all()


def test_the_prior_is_what_the_predictor_says_of_the_named_actions():
    assert MODELS[ACTION].prior(np.array([0.2, 0.9, 0.5])) == pytest.approx(tuple(logit(np.array([0.2, 0.5]))))


def test_models_come_back_from_arrays_as_they_were():
    arrays, layout = stop_arrays(MODELS)
    back = stops_from(arrays, layout, 3)
    assert list(back) == list(MODELS)
    rows = np.random.default_rng(0).normal(size=(20, 7))
    for action, model in MODELS.items():
        assert back[action].priors == model.priors
        for drawn in (1, 2, 3, 4, 5):
            np.testing.assert_array_equal(back[action].policy.advantage(rows, drawn), model.policy.advantage(rows, drawn))


def test_a_prior_from_an_action_that_is_not_there_is_refused():
    arrays, layout = stop_arrays(MODELS)
    with pytest.raises(ValueError, match="of 2"):
        stops_from(arrays, layout, 2)
    with pytest.raises(KeyError):
        stops_from({}, layout, 3)


def test_a_rule_over_other_features_of_the_vote_is_refused():
    arrays, layout = stop_arrays(MODELS)
    for votes in ({"votes": 5}, {}):
        old = [{key: value for key, value in entry.items() if key != "votes"} | votes for entry in layout]
        with pytest.raises(ValueError, match="other features of the vote"):
            stops_from(arrays, old, 3)
