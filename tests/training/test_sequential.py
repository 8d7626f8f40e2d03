"""The sequential policy on worlds where the best order is known."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from rheostat.router.rules import choose_rows
from rheostat.router.sequential import Network, SequentialPolicy, prior_rows
from rheostat.training.sequential import Episodes, Plan, fit_sequential, spend_along

COST = np.array([1.0, 1.0, 20.0])
SMALL = Plan(depth=3, members=1, iterations=6, judge_epochs=20, epochs=5, states_per_query=3, tried=3, judge_width=24, gain_widths=(32, 16))


def episodes(seed: int, n: int = 1200) -> Episodes:
    """Two cheap actions that err independently and differently, one dear and right: agreement of the cheap ones settles it."""
    rng = np.random.default_rng(seed)
    right = rng.random((n, 3)) < [0.7, 0.7, 0.97]
    answers = np.where(right, 0, 1 + rng.integers(0, 30, size=(n, 3))).astype(np.int16)
    cost = np.tile(COST, (n, 1))
    return Episodes.of(np.tile([0.7, 0.7, 0.97], (n, 1)), answers, right.astype(float), cost, cost)


@functools.cache
def policy() -> SequentialPolicy:
    return fit_sequential(episodes(0, 4000), scale=20.0, plan=SMALL)


def test_before_anything_is_learned_the_first_action_is_the_average_rules():
    rng = np.random.default_rng(0)
    p, cost = rng.random((40, 3)), np.tile(COST, (40, 1))
    nothing = Network((np.zeros((5 * 3 + 6, 3), dtype=np.float32),), (np.zeros(3, dtype=np.float32),))
    untaught = SequentialPolicy(policy().judge, nothing, scale=20.0, depth=3)
    for multiplier in (2.0, 20.0, 200.0):
        steps = [untaught.step(prior_rows(row), np.zeros(3, np.int16), np.zeros(3, bool), COST, multiplier=multiplier) for row in p]
        assert [step.action for step in steps] == choose_rows(p, cost, multiplier).tolist()


def test_agreement_is_worth_more_than_any_cheap_action():
    data = episodes(1)
    run = np.tile([True, True, False], (len(data.reward), 1))
    known = policy().beliefs(data.prior, data.answers, run)
    agree = data.answers[:, 0] == data.answers[:, 1]
    assert known.p_correct[agree].mean() > 0.9
    assert known.p_correct[~agree].mean() < 0.7


def test_policy_reaches_the_dear_actions_accuracy_for_less():
    test = episodes(2)
    spend = spend_along(policy(), test)
    good = spend.reward.mean(axis=0) >= test.reward[:, 2].mean() - 0.015
    assert good.any()
    assert spend.cost.mean(axis=0)[good].min() < 0.75 * COST[2]


def test_spending_grows_with_the_price_of_accuracy():
    cost = spend_along(policy(), episodes(3), np.array([0.05, 1.0, 50.0])).cost.mean(axis=0)
    assert cost[0] < cost[2]


def test_step_gives_what_the_batch_gives():
    data, chosen = episodes(4, 20), policy()
    run = np.tile([True, False, False], (20, 1))
    known = chosen.beliefs(data.prior, data.answers, run)
    net = chosen.net_gains(known.state, run, data.expected, np.full(20, 30.0))
    for row in range(20):
        step = chosen.step(data.prior[row], data.answers[row], run[row], data.expected[row], multiplier=30.0)
        assert step.action == (int(net[row].argmax()) if net[row].max() > 0 else None)
        assert step.p_correct == pytest.approx(known.p_correct[row], abs=1e-5)


def test_something_is_run_even_when_accuracy_is_worth_nothing():
    data, nothing = episodes(5, 1), np.zeros(3, dtype=bool)
    step = policy().step(data.prior[0], data.answers[0], nothing, data.expected[0], multiplier=1e-6)
    assert step.action is not None
    assert step.leader is None


def test_no_action_runs_twice_nor_beyond_the_depth():
    data = episodes(6, 50)
    everything = np.ones((50, 3), dtype=bool)
    known = policy().beliefs(data.prior, data.answers, everything)
    assert np.isneginf(policy().net_gains(known.state, everything, data.expected, np.full(50, 1e6))).all()


def test_beliefs_do_not_depend_on_how_answers_are_numbered():
    data = episodes(7, 50)
    run = np.ones((50, 3), dtype=bool)
    renamed = (100 - data.answers).astype(np.int16)
    first, second = (policy().beliefs(data.prior, each, run) for each in (data.answers, renamed))
    assert first.p_correct == pytest.approx(second.p_correct)


def test_answers_that_were_not_read_lead_nothing():
    run = np.ones((1, 3), dtype=bool)
    known = policy().beliefs(prior_rows(np.full((1, 3), 0.5)), np.full((1, 3), -1, dtype=np.int16), run)
    assert known.p_correct[0] == 0.0
