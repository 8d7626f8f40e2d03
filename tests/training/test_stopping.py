"""The learned rule, where the best rule is known."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.policies.base import Candidate, Evidence
from rheostat.policies.learned_stop import VOTE_FEATURES, PriorRule
from rheostat.router.stopping import LOGPROBS, N_COUNTS, N_VOTES, SCORES
from rheostat.training.stop_curves import stopped
from rheostat.training.stopping import (
    Spent,
    Watched,
    fit_checked,
    fit_stopping,
    keeps_up,
    lead_stops,
    learned_stops,
    spent,
    state_rows,
)
from rheostat.training.trajectories import Trajectories, trajectories

K = 6


def world(n: int, seed: int) -> tuple[Trajectories, np.ndarray]:
    """Queries where one sample is as good as six (right always or never), and queries where a vote helps (.7 a sample).

    The prior says which are which.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    chance = np.array([1.0, 0.0, 0.7])[kind][:, None]
    codes = np.where(rng.random((n, K)) < chance, 0, 1).astype(np.int16)
    return trajectories(codes, np.tile([1.0, 0.0], (n, 1))), (kind == 2).astype(float)[:, None]


def test_with_a_prior_it_votes_only_where_votes_help():
    runs, prior = world(3000, 0)
    held, held_prior = world(3000, 1)
    result = stopped(held, learned_stops(fit_stopping(runs, prior, price=0.005), held, held_prior))
    helped = held_prior[:, 0] == 1
    assert result.samples[~helped].mean() < 1.1
    assert result.samples[helped].mean() > 2.5
    assert result.reward[helped].mean() > 0.75


def test_without_a_prior_it_is_no_worse_than_any_fixed_number_of_samples():
    price = 0.01
    runs, prior = world(4000, 2)
    held, held_prior = world(4000, 3)
    result = stopped(held, learned_stops(fit_stopping(runs, prior[:, :0], price=price), held, held_prior[:, :0]))
    best = max(float(held.value[:, k - 1].mean()) - price * k for k in range(1, K + 1))
    assert float((result.reward - price * result.samples).mean()) > best - 0.01


def test_a_higher_price_draws_fewer_samples():
    runs, prior = world(2000, 4)
    drawn = [float(stopped(runs, learned_stops(fit_stopping(runs, prior, price=p), runs, prior)).samples.mean()) for p in (0.0, 0.02, 1.0)]
    assert drawn == sorted(drawn, reverse=True)
    assert drawn[-1] == 1.0


def test_the_served_rule_decides_as_in_training():
    runs, prior = world(1500, 5)
    policy = fit_stopping(runs, prior, price=0.01)
    stops = learned_stops(policy, runs, prior)
    one = (Candidate(index=0, model="", text="", answer="a", tokens=1),)
    evidence = Evidence(candidates=one, chosen=0, why="", planned=K)
    assert PriorRule(policy, (0.0,))(evidence) == "learned"
    assert bool(PriorRule(policy, (1.0,))(evidence)) == bool(stops[prior[:, 0] == 1][0, 0])
    assert PriorRule(policy, (0.0,))(Evidence(candidates=(), chosen=0, why="", planned=K)) is None


def test_what_fits_a_rule_and_what_serves_it_agree_which_numbers_are_log_probabilities_and_scores():
    assert len(VOTE_FEATURES) == N_VOTES
    assert [at for at, name in enumerate(VOTE_FEATURES) if "logprob" in name] == list(LOGPROBS)
    assert [at for at, name in enumerate(VOTE_FEATURES) if "score" in name] == list(SCORES)
    assert LOGPROBS[0] == N_COUNTS


def test_it_stops_only_where_it_may_look():
    runs, prior = world(1500, 6)
    stops = learned_stops(fit_stopping(runs, prior, price=0.05, looks=(2, 4, K)), runs, prior)
    assert set((stops.argmax(axis=1) + 1).tolist()) <= {2, 4, K}


def test_a_target_without_differences_is_one_leaf():
    runs, prior = world(200, 7)
    same = trajectories(np.zeros((200, K), np.int16), np.ones((200, 1)))
    policy = fit_stopping(same, prior, price=0.0)
    assert policy.advantage(state_rows(runs, prior, 1), 1) == pytest.approx(np.zeros(200), abs=1e-9)


def test_a_prior_that_deceives_is_left_out_and_the_rule_keeps_up_with_lead():
    runs, _ = world(1200, 8)
    held, _ = world(3000, 9)
    # Every query has its own prior: what is learned from it holds for no other query.
    query = np.arange(1200) // 4
    noise = np.random.default_rng(1).normal(size=300)[query][:, None]
    policy = fit_checked(Watched(runs, noise, query), price=0.002)
    if policy is not None:
        prior = np.random.default_rng(2).normal(size=(3000, 1))[:, : policy.n_prior]
        got = spent(held, learned_stops(policy, held, prior))
        leads = [spent(held, lead_stops(held, lead)) for lead in (1, 2, 3)]
        assert got.reward > np.interp(got.samples, [lead.samples for lead in leads], [lead.reward for lead in leads]) - 0.02


def test_a_prior_that_knows_is_kept():
    runs, prior = world(3000, 10)
    policy = fit_checked(Watched(runs, prior, np.arange(3000)), price=0.005)
    assert policy is not None
    assert policy.n_prior == 1


def test_a_rule_that_stops_at_the_first_look_is_held_against_doing_so_always():
    runs, prior = world(3000, 13)
    policy = fit_checked(Watched(runs, prior, np.arange(3000)), price=0.2, looks=(2, 4, K))
    assert policy is not None
    found = spent(runs, learned_stops(policy, runs, prior[:, : policy.n_prior]))
    assert found.samples < spent(runs, lead_stops(runs, 1, (2, 4, K))).samples


def test_a_rule_below_lead_at_the_same_samples_does_not_keep_up():
    runs, _ = world(2000, 11)
    two = spent(runs, lead_stops(runs, 2))
    assert keeps_up(two, runs)
    assert not keeps_up(Spent(two.samples, two.reward - 0.01), runs)


def test_a_prior_of_another_length_is_refused():
    runs, prior = world(300, 12)
    with pytest.raises(ValueError, match="prior of 1 numbers"):
        PriorRule(fit_stopping(runs, prior, price=0.1), (0.1, 0.2))
