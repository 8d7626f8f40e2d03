"""The learned rule, where the best rule is known."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.data.errors import BundleError
from rheostat.policies.base import Candidate, Evidence
from rheostat.policies.learned_stop import LearnedStop
from rheostat.training.stop_curves import stopped
from rheostat.training.stopping import fit_stopping, learned_stops
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
    one = tuple(Candidate(index=0, model="", text="", answer="a", tokens=1) for _ in range(1))
    rule = policy.rule([0.0])
    assert rule(Evidence(candidates=one, chosen=0, why="", planned=K)) == "learned"
    assert bool(policy.rule([1.0])(Evidence(candidates=one, chosen=0, why="", planned=K))) == bool(stops[prior[:, 0] == 1][0, 0])
    assert rule(Evidence(candidates=(), chosen=0, why="", planned=K)) is None


def test_it_always_stops_at_the_last_sample():
    policy = LearnedStop(("",), 0)
    two = tuple(Candidate(index=at, model="", text="", answer=str(at), tokens=1) for at in range(2))
    assert policy.rule([])(Evidence(candidates=two[:1], chosen=0, why="", planned=2)) is None
    assert policy.rule([])(Evidence(candidates=two, chosen=0, why="", planned=2)) == "learned"


def test_a_prior_of_another_length_is_refused():
    with pytest.raises(ValueError, match="prior of 2 numbers"):
        LearnedStop(("",), 2).rule([0.1])


def test_a_text_that_is_no_booster_is_refused():
    with pytest.raises(BundleError, match="does not parse"):
        LearnedStop(("nonsense",), 0).advantage(np.zeros((1, 5)), 1)
