"""Courses under a hand-made policy whose gains are known."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.router.courses import Course, Expected, Left, Plan, plan_arrays, plan_from
from rheostat.router.predictor import PriceVector
from rheostat.router.rules import MultiplierPath
from rheostat.router.sequential import Network, SequentialPolicy

ARMS = (1, 3)
COST = np.array([9.0, 1.0, 9.0, 4.0])
NOTHING = Left()


def plan(gains: tuple[float, float] = (5.0, 5.0)) -> Plan:
    """Both arms promise the same gain whatever was seen; an answer is likelier the more arms gave it."""
    a = len(ARMS)
    judge = np.zeros((4 * a + 3, 1), np.float32)
    judge[4 * a] = 8.0
    judge_network = Network((judge,), (np.full(1, -3.0, np.float32),))
    gain = Network((np.zeros((5 * a + 6, a), np.float32),), (np.array(gains, np.float32),))
    prices = PriceVector(np.full(a, 1e-6), np.zeros(a))
    path = MultiplierPath(np.array([1.0, 2.0]), np.array([0.5, 0.9]), np.array([1.0, 5.0]))
    return Plan(SequentialPolicy(judge_network, gain, 1.0, a), ARMS, path, prices)


def expected(**changes: np.ndarray) -> Expected:
    ones = np.ones(4)
    made = Expected(ones / 2, COST, COST, np.array([1, 10, 1, 100]), ones, ones > 0)
    return made._replace(**changes)


def course(multiplier: float = 10.0, **changes: np.ndarray) -> Course:
    return Course(plan(), expected(**changes), multiplier=multiplier)


def test_the_cheaper_of_equal_promises_is_run_first_and_each_only_once():
    walk = course()
    assert walk.turn(NOTHING).action == 1
    walk.saw(1, "a")
    assert walk.turn(NOTHING).action == 3
    walk.saw(3, "b")
    assert walk.turn(NOTHING).action is None


def test_it_stops_where_going_on_is_not_worth_its_cost():
    walk = course(multiplier=0.5)
    walk.saw(1, "a")
    turn = walk.turn(NOTHING)
    assert turn.action is None
    assert turn.leader == 1
    assert 0 < turn.p_correct < 1


def test_agreement_makes_an_answer_likelier():
    agreed, split = course(), course()
    for walk, second in ((agreed, "a"), (split, "b")):
        walk.saw(1, "a")
        walk.saw(3, second)
    assert agreed.turn(NOTHING).p_correct > split.turn(NOTHING).p_correct


def test_an_answer_that_could_not_be_read_leads_nothing():
    walk = course()
    walk.saw(1, None)
    assert walk.turn(NOTHING).leader is None


@pytest.mark.parametrize("left", [Left(tokens=50), Left(cost_usd=2.0), Left(tokens=10, seconds=1.0)])
def test_what_does_not_fit_into_what_is_left_is_not_run(left):
    walk = course()
    assert walk.turn(left).action == 1
    walk.saw(1, "a")
    assert walk.turn(left).action is None


def test_nothing_is_run_where_nothing_fits():
    assert course().turn(Left(tokens=5)).action is None
    assert course(allowed=np.zeros(4, dtype=bool)).turn(NOTHING).action is None


def test_a_barred_action_is_left_out():
    walk = course()
    walk.bar(1)
    assert walk.turn(NOTHING).action == 3


def test_its_cap_is_that_of_all_it_may_run():
    assert course().cap_tokens == 110


def test_a_plan_comes_back_from_arrays_as_it_was():
    arrays, layout = plan_arrays(plan())
    back = plan_from(arrays, layout, 4)
    assert back.arms == ARMS
    for walk in (course(), Course(back, expected(), multiplier=10.0)):
        walk.saw(1, "a")
        assert walk.turn(NOTHING) == course_after_one().turn(NOTHING)
    np.testing.assert_array_equal(back.path.cost, plan().path.cost)


def course_after_one() -> Course:
    walk = course()
    walk.saw(1, "a")
    return walk


@pytest.mark.parametrize("broken", ["plan.judge.weight0", "plan.gain.bias0"])
def test_arrays_of_the_wrong_shape_are_found_when_they_are_read(broken):
    arrays, layout = plan_arrays(plan())
    arrays[broken] = np.zeros((7, 7), np.float32)
    with pytest.raises(ValueError, match=r"mismatch|broadcast"):
        plan_from(arrays, layout, 4)


def test_an_arm_that_is_no_action_is_refused():
    arrays, layout = plan_arrays(plan())
    with pytest.raises(ValueError, match="of 3"):
        plan_from(arrays, layout, 3)


def test_a_plan_fits_only_the_prices_it_was_made_for():
    prices = PriceVector(np.full(4, 1e-6), np.zeros(4))
    assert plan().fits(prices)
    assert not plan().fits(PriceVector(prices.output * np.array([1, 1, 1, 2]), prices.prompt))
