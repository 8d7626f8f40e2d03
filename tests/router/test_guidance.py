"""What a controller knows while its decision is carried out."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from rheostat.data.schema import Action, Constraints, Query
from rheostat.router.ask import Ask
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import logit
from rheostat.router.controller import Controller
from rheostat.router.courses import Left, Plan
from rheostat.router.predictor import PriceVector
from rheostat.router.rules import MultiplierPath
from rheostat.router.ruling import SEQUENTIAL
from rheostat.router.stopping import N_VOTES, StopModel, StopPolicy
from tests.router.conftest import ACTIONS, P_CORRECT, PlainEncoder, known_bundle, known_predictor
from tests.router.test_answer_score import scorer
from tests.router.test_courses import plan
from tests.router.test_stopping import always

VOTE = ACTIONS[2]
TARGET = 0.6


def planned(*, accuracy: float = 0.95, cost: float = 1e-9, price: float = 1e-6) -> Bundle:
    """A bundle whose plan runs the first two actions, and reached `accuracy` at `cost` on held-out queries."""
    made = plan()
    path = MultiplierPath(np.array([1e-4, 2e-4]), np.array([accuracy, accuracy]), np.array([cost, cost]))
    return replace(known_bundle(), plan=Plan(made.policy, (0, 1), path, PriceVector(np.full(2, price), np.zeros(2))))


def controller(bundle: Bundle, **options) -> Controller:
    return Controller(bundle, prices={}, encoder=PlainEncoder(), **options)


def asked(*, models=None, forced=None, **constraints) -> Ask:
    query = Query.of_text("What is 1 + 1?", constraints=Constraints(target_accuracy=TARGET, **constraints))
    return Ask(query, models=models, forced=forced)


def test_several_actions_are_decided_where_they_reach_the_target_for_less():
    decision = controller(planned()).decide(asked())
    assert decision.rule == SEQUENTIAL
    assert decision.action in ACTIONS[:2]
    assert decision.p_correct == pytest.approx(0.95)


@pytest.mark.parametrize("bundle", [planned(accuracy=0.5), planned(cost=1.0), planned(price=2e-6)])
def test_one_action_is_decided_where_several_miss_the_target_or_cost_more_or_were_fitted_for_other_prices(bundle):
    assert controller(bundle).decide(asked()).rule == "average"


def test_several_actions_are_not_decided_where_they_are_switched_off_or_nothing_fits_or_high_stakes():
    assert controller(planned(), sequential=False).decide(asked()).rule == "average"
    assert controller(planned()).decide(asked(max_tokens_total=10)).rule == "cheapest"
    assert controller(planned()).decide(asked(high_stakes=True)).rule == "per_query"
    assert controller(planned()).decide(asked(models=frozenset({"large"}))).rule == "average"


def test_following_a_course_goes_on_from_the_decided_action():
    chosen = controller(planned())
    ask = asked()
    decision = chosen.decide(ask)
    guidance = chosen.follow(ask, decision)
    assert guidance is not None
    assert guidance.course is not None
    first = guidance.actions.index(Action.parse(decision.action))
    assert guidance.course.turn(Left()).action == first
    guidance.course.saw(first, "2")
    assert guidance.course.turn(Left()).action == 1 - first


def test_a_decision_that_needs_nothing_more_or_is_of_another_bundle_is_not_followed():
    plain, chosen = controller(known_bundle()), controller(planned())
    ask = asked()
    assert plain.follow(ask, plain.decide(ask)) is None
    other = msgspec.structs.replace(chosen.decide(ask), bundle="another")
    assert chosen.follow(ask, other) is None


def test_a_learned_rule_comes_with_the_prior_of_the_query():
    stop = StopModel(StopPolicy((always(2),), 2), (0, 2), scorer(2))
    chosen = controller(replace(known_bundle(), stops={VOTE: stop}))
    ask = asked(forced=Action.parse(VOTE))
    decision = chosen.decide(ask)
    guidance = chosen.follow(ask, decision)
    assert guidance is not None
    assert guidance.course is None
    known = guidance.stop(Action.parse(VOTE))
    assert known is not None
    assert known.prior == pytest.approx(stop.prior(P_CORRECT), abs=1e-6)
    assert known.score is not None
    assert known.score.question.text == ask.query.text.lower()
    assert guidance.stop(Action.parse(ACTIONS[0])) is None


class Counting:
    """A learner that knows the chances, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def logits(self, features: np.ndarray) -> np.ndarray:
        self.asked += 1
        return np.tile(logit(P_CORRECT), (len(features), 1))


def test_a_decision_just_made_is_followed_by_what_it_was_made_from_and_any_other_by_its_embedding():
    learner = Counting()
    stops = {VOTE: StopModel(StopPolicy((always(2),), 2), (0, 2))}
    bundle = replace(known_bundle(), stops=stops, predictor=replace(known_predictor(), learners=(learner,)))
    chosen, ask = controller(bundle), asked(forced=Action.parse(VOTE))
    decision = chosen.decide(ask)
    just, later, elsewhere = chosen.follow(ask, decision), chosen.follow(ask, decision), controller(bundle).follow(ask, decision)
    assert learner.asked == 3
    for guidance in (just, later, elsewhere):
        assert guidance is not None
        np.testing.assert_allclose(guidance.p_correct, P_CORRECT)


def test_exploring_takes_one_action_in_the_place_of_several_with_its_chance():
    chosen = controller(planned(), epsilon=0.5, seed=1)
    decisions = [chosen.decide(asked()) for _ in range(400)]
    several = [d for d in decisions if d.rule == SEQUENTIAL]
    tried = [d for d in decisions if d.rule == "average"]
    assert len(several) == pytest.approx(200, abs=50)
    assert {d.propensity for d in several} == {0.5}
    assert all(d.explored for d in tried)
    assert sum(chance for chance in {d.action: d.propensity for d in tried}.values()) == pytest.approx(0.5)


def test_bundle_keeps_plan_and_stop_rules(tmp_path):
    stop = StopModel(StopPolicy((None, always(2)), 2), (0, 2), scorer(2))
    bundle = replace(planned(), stops={VOTE: stop})
    back = Bundle.load(bundle.save(tmp_path / "bundle"))
    assert back.plan is not None
    assert back.plan.arms == (0, 1)
    np.testing.assert_array_equal(back.stops[VOTE].policy.advantage(np.zeros((1, N_VOTES + 2)), 2), [1.0])
    score = back.stops[VOTE].score("What is 4 + 5?", P_CORRECT)
    assert score is not None
    assert score("9") == 2.0
