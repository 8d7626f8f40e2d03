"""Which rule decides on a query, and what it says."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.data.schema import Constraints
from rheostat.router.ruling import AVERAGE, BUDGET, CHEAPEST, CONGESTED, DEADLINE, GUARD, OUT_OF_DISTRIBUTION, PER_QUERY, SingleAction
from tests.router.conftest import PlainEncoder, known_bundle, known_paths, situation

CHEAP, MIDDLE, DEAR = range(3)
NONE = np.zeros(3, bool)
FAR = PlainEncoder().encode(["far away"])[0]


@pytest.fixture
def single():
    return SingleAction(known_bundle().guard, known_paths())


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
