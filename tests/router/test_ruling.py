"""Which rule decides on a query, and what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rheostat.data.schema import Constraints
from rheostat.router.ruling import AVERAGE, BUDGET, CHEAPEST, CONGESTED, DEADLINE, GUARD, OUT_OF_DISTRIBUTION, PER_QUERY, SingleAction
from tests.router.conftest import PlainEncoder, known_bundle, known_paths, promising_bundle, situation

CHEAP, MIDDLE, DEAR = range(3)
NONE = np.zeros(3, bool)
FAR = PlainEncoder().encode(["far away"])[0]


@pytest.fixture
def single():
    return SingleAction(known_bundle().guard, known_paths())


@pytest.fixture
def sure():
    return SingleAction(known_bundle().guard, known_paths(promising_bundle()))


def test_where_nothing_fits_the_cheapest_action_is_taken_and_promises_nothing(single):
    ruling = single.rule(situation(admissible=NONE))
    assert (ruling.action, ruling.rule, ruling.feasible, ruling.degraded) == (CHEAP, CHEAPEST, False, None)
    late = single.rule(situation(admissible=NONE, constraints=Constraints(deadline_s=1e-9)))
    assert late.degraded == DEADLINE


def test_far_from_training_the_guard_decides_or_the_most_accurate_that_fits(single):
    ruling = single.rule(situation(embedding=FAR))
    assert (ruling.action, ruling.rule, ruling.degraded) == (DEAR, GUARD, OUT_OF_DISTRIBUTION)
    assert single.rule(situation(embedding=FAR, admissible=np.array([True, True, False]))).action == MIDDLE


def test_high_stakes_are_met_by_the_lower_bound_of_the_query_itself(single):
    for target in np.linspace(0.0, 0.84, 15):
        asked = situation(target=float(target), constraints=Constraints(high_stakes=True))
        ruling = single.rule(asked)
        assert (ruling.rule, ruling.feasible) == (PER_QUERY, True)
        assert asked.prediction.p_low[ruling.action] >= target


def test_on_average_cost_and_multiplier_never_fall_as_the_target_rises(single):
    rulings = [single.rule(situation(target=float(target))) for target in np.linspace(0.0, 0.93, 20)]
    assert {ruling.rule for ruling in rulings} == {AVERAGE}
    assert [ruling.action for ruling in rulings] == sorted(ruling.action for ruling in rulings)
    assert [ruling.multiplier for ruling in rulings] == sorted(ruling.multiplier for ruling in rulings)


def test_limits_that_rule_nothing_out_change_nothing(single):
    every, at_cost = np.ones(3, bool), situation().weighed.copy()
    for target in np.linspace(0.0, 0.99, 20):
        unhindered, weighed = situation(target=float(target)), situation(target=float(target), admissible=every, weighed=at_cost)
        assert (unhindered.is_unhindered, weighed.is_unhindered) == (True, False)
        assert single.rule(weighed) == single.rule(unhindered)


def test_a_budget_sets_the_multiplier_whatever_the_target(single):
    rulings = [single.rule(situation(target=target, paced=1e-4)) for target in (0.1, 0.99)]
    assert [(ruling.rule, ruling.multiplier) for ruling in rulings] == [(BUDGET, 1e-4)] * 2
    assert rulings[0].action == rulings[1].action


def test_a_load_that_changes_the_choice_is_named_and_takes_the_promise_on_the_mean(single):
    asked = situation(target=0.9)
    calm, busy = single.rule(asked), single.rule(situation(target=0.9, weighed=asked.weighed * 1000))
    assert (calm.degraded, calm.feasible) == (None, True)
    assert (busy.degraded, busy.feasible) == (CONGESTED, False)
    assert busy.action < calm.action


def confident(target: float, **changes):
    return situation(target=target, constraints=Constraints(confidence=0.9), **changes)


def test_a_promise_costs_no_less_than_an_estimate_and_ends_where_an_estimate_goes_on(sure):
    for target in np.linspace(0.3, 0.9, 25):
        plain, promised = sure.rule(situation(target=float(target))), sure.rule(confident(float(target)))
        assert promised.rule == AVERAGE
        assert promised.feasible == promised.promised
        assert not plain.promised
        assert not promised.promised or promised.multiplier >= plain.multiplier
    assert sure.rule(situation(target=0.93)).feasible
    assert not sure.rule(confident(0.93)).feasible


def test_what_cannot_be_promised_gets_the_policy_that_promises_most(sure):
    path = known_paths(promising_bundle()).promised(np.ones(3, bool), 0.9)
    best, beyond = sure.rule(confident(path.attainable)), sure.rule(confident(0.99))
    assert (best.promised, beyond.promised) == (True, False)
    assert (beyond.action, beyond.multiplier) == (best.action, best.multiplier)


def test_without_fresh_queries_nothing_is_promised_and_the_estimate_decides(single):
    for target in (0.3, 0.6, 0.93):
        plain, asked = single.rule(situation(target=target)), single.rule(confident(target))
        assert (asked.action, asked.multiplier) == (plain.action, plain.multiplier)
        assert (asked.promised, asked.feasible) == (False, False)


@pytest.mark.parametrize("n_fresh", [2, 5])
def test_few_fresh_queries_that_all_policies_got_right_make_no_decision_cheaper(n_fresh):
    """They promise as much of the cheapest policy as of the dearest: too little, and no reason to take the cheapest."""
    bundle = promising_bundle()
    easy = np.flatnonzero(bundle.held_out.reward.min(axis=1) > 0.9)[:n_fresh]
    fresh = np.isin(np.arange(800), easy)
    few = SingleAction(bundle.guard, known_paths(replace(bundle, held_out=bundle.held_out._replace(fresh=fresh))))
    for target in (0.8, 0.93):
        plain, asked = few.rule(situation(target=target)), few.rule(confident(target))
        assert not asked.promised
        assert (asked.action, asked.multiplier) == (plain.action, plain.multiplier)


def test_a_cap_or_a_load_that_changes_the_choice_takes_the_promise(sure):
    assert sure.rule(confident(0.9)).promised
    capped = sure.rule(confident(0.9, admissible=np.array([True, True, False])))
    assert (capped.action, capped.promised, capped.feasible) == (MIDDLE, False, False)
    busy = sure.rule(confident(0.9, weighed=situation().weighed * 1000))
    assert (busy.degraded, busy.promised) == (CONGESTED, False)


def test_the_guard_keeps_the_promise_while_its_action_may_be_taken(sure):
    assert sure.rule(confident(0.7, embedding=FAR)).promised
    capped = sure.rule(confident(0.7, embedding=FAR, admissible=np.array([True, True, False])))
    assert (capped.rule, capped.promised, capped.feasible) == (GUARD, False, False)
    assert not sure.rule(confident(0.99, embedding=FAR)).feasible


def test_neither_a_bound_on_one_query_nor_a_budget_is_a_promise(sure):
    stakes = sure.rule(situation(target=0.5, constraints=Constraints(confidence=0.9, high_stakes=True)))
    assert (stakes.rule, stakes.promised, stakes.feasible) == (PER_QUERY, False, False)
    paced = sure.rule(confident(0.5, paced=1e-4))
    assert (paced.rule, paced.promised, paced.feasible) == (BUDGET, False, True)
