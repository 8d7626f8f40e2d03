"""What is tried for the sake of learning, and with which chance."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.data.schema import Constraints
from rheostat.router.explorer import Explorer
from rheostat.router.ruling import AVERAGE, GUARD, SEQUENTIAL, Ruling
from tests.router.conftest import situation

EPSILON, N = 0.5, 2000


def draws(ruling: Ruling, **changes):
    explorer = Explorer(EPSILON, seed=2)
    return [explorer.draw(situation(**changes), ruling) for _ in range(N)]


@pytest.mark.parametrize("rule", [AVERAGE, SEQUENTIAL])
def test_what_is_drawn_comes_as_often_as_its_propensity_says(rule):
    drawn = draws(Ruling(0, feasible=True, rule=rule))
    chances = {(each.ruling.rule, each.action): each.propensity for each in drawn}
    assert len(chances) > 1
    assert sum(chances.values()) == pytest.approx(1.0)
    for key, chance in chances.items():
        assert sum((each.ruling.rule, each.action) == key for each in drawn) / N == pytest.approx(chance, abs=0.04)


def test_other_rules_and_requests_that_do_not_take_part_are_left_alone():
    average = Ruling(0, feasible=True, rule=AVERAGE)
    unexplored = [
        *draws(Ruling(0, feasible=True, rule=GUARD)),
        *draws(average, constraints=Constraints(explore=False)),
        *draws(average, admissible=np.zeros(3, bool)),
        Explorer(0.0, seed=2).draw(situation(), average),
    ]
    assert {(each.action, each.propensity, each.explored) for each in unexplored} == {(0, 1.0, False)}


def test_the_same_seed_draws_the_same():
    ruling = Ruling(1, feasible=True, rule=AVERAGE)
    assert draws(ruling) == draws(ruling)
