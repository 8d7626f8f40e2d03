"""Several actions in the place of one."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.data.schema import Constraints
from rheostat.router.ruling import AVERAGE, BUDGET, GUARD, SEQUENTIAL, Ruling
from rheostat.router.several import SeveralActions
from tests.router.conftest import known_paths, situation
from tests.router.test_guidance import planned

CAPS = np.array([64, 256, 2048])
SINGLE = Ruling(2, feasible=True, rule=AVERAGE, multiplier=1e-4)


def several(**path: float) -> SeveralActions:
    plan = planned(**path).plan
    assert plan is not None
    return SeveralActions(plan, known_paths(), CAPS)


def test_several_actions_rule_where_they_reach_the_target_for_less():
    ruling = several().instead_of(SINGLE, situation(target=0.6))
    assert (ruling.rule, ruling.feasible) == (SEQUENTIAL, True)
    assert ruling.action in (0, 1)


@pytest.mark.parametrize("path", [{"accuracy": 0.5}, {"cost": 1.0}])
def test_a_single_action_stays_where_several_miss_the_target_or_cost_more(path):
    assert several(**path).instead_of(SINGLE, situation(target=0.6)) is SINGLE


def test_a_single_action_stays_where_an_arm_is_down_or_nothing_fits_or_another_rule_spoke():
    down = situation(target=0.6, allowed=np.array([False, True, True]))
    assert several().instead_of(SINGLE, down) is SINGLE
    assert several().instead_of(SINGLE, situation(target=0.6, constraints=Constraints(max_tokens_total=10))) is SINGLE
    guarded = Ruling(2, feasible=True, rule=GUARD)
    assert several().instead_of(guarded, situation(target=0.6)) is guarded


def test_a_single_action_stays_where_the_target_is_to_be_promised():
    assert several().instead_of(SINGLE, situation(target=0.6, constraints=Constraints(confidence=0.9))) is SINGLE


def test_a_budget_is_the_worth_of_accuracy_also_of_several_actions():
    ruling = several(cost=1.0).instead_of(Ruling(2, feasible=True, rule=BUDGET), situation(paced=3e-4))
    assert (ruling.rule, ruling.multiplier) == (SEQUENTIAL, 3e-4)


@pytest.mark.parametrize("multiplier", [0.0, 1e-4, 1.5e-4, 9.0])
def test_any_multiplier_reads_what_was_measured(multiplier):
    assert several(accuracy=0.95, cost=1e-9).at(multiplier) == (0.95, 1e-9)
