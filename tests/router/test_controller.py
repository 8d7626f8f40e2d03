"""The controller on a bundle with known numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rheostat.data.errors import InfeasibleError
from rheostat.data.ledger import Price
from rheostat.data.schema import Action, Constraints, Guarantee
from rheostat.router.budgets import Budgets
from rheostat.router.controller import Controller
from tests.router.conftest import ACTIONS, DIMENSION, PlainEncoder, ask, promising_bundle

CHEAP, MIDDLE, DEAR = ACTIONS


@pytest.fixture
def controller(bundle):
    return Controller(bundle, prices={}, encoder=PlainEncoder())


def test_low_targets_get_the_cheap_action_and_high_ones_the_dear(controller):
    assert controller.decide(ask(target_accuracy=0.4)).action == CHEAP
    assert controller.decide(ask(target_accuracy=0.93)).action == DEAR


def test_spending_never_falls_as_the_target_rises(controller):
    costs = [controller.decide(ask(target_accuracy=target)).cost_usd for target in np.linspace(0, 0.93, 20)]
    assert costs == sorted(costs)


def test_decision_is_complete(controller):
    decision = controller.decide(ask(target_accuracy=0.93, tier="deep"))
    assert decision.bundle == "7"
    assert decision.tier == "deep"
    assert decision.propensity == 1.0
    assert decision.p_correct == pytest.approx(0.9)
    assert decision.p_interval == pytest.approx((0.85, 0.95))
    assert decision.cost_usd == pytest.approx(500e-6)
    assert len(np.frombuffer(decision.embedding, "<f2")) == DIMENSION
    assert set(decision.alternatives) == set(ACTIONS)
    assert len(decision.prompt_sha256) == 64


def test_without_an_embedding_a_query_is_decided_as_the_most_typical_one(controller):
    for target in (0.4, 0.93):
        read, unread = controller.decide(ask(target_accuracy=target)), controller.decide_unread(ask(target_accuracy=target))
        assert (unread.action, unread.p_correct, unread.rule) == (read.action, read.p_correct, read.rule)


def test_without_an_embedding_caps_promises_and_forced_actions_stand(controller):
    assert controller.decide_unread(ask(target_accuracy=0.93, max_tokens_total=300)).action == MIDDLE
    assert controller.decide_unread(ask(forced=Action.parse(DEAR))).action == DEAR
    with pytest.raises(InfeasibleError):
        controller.decide_unread(ask(target_accuracy=0.99, strict=True))


def test_no_encoder_is_asked_for_a_decision_without_an_embedding(bundle):
    class Silent:
        encoder_id, dimension = "plain:0", DIMENSION

        def encode(self, texts):
            raise AssertionError("asked")

    assert Controller(bundle, prices={}, encoder=Silent()).decide_unread(ask(target_accuracy=0.4)).action == CHEAP


def test_request_overrides_the_tier(controller):
    decision = controller.decide(ask(target_accuracy=0.4, defaults=Constraints(target_accuracy=0.93)))
    assert decision.action == CHEAP
    assert decision.target_accuracy == 0.4


def test_without_a_target_the_best_fixed_accuracy_is_aimed_at(controller, bundle):
    decision = controller.decide(ask())
    assert decision.target_accuracy == pytest.approx(bundle.held_out.reward[:, 2].mean())


def test_caps_hold_and_a_missed_target_is_flagged(controller):
    decision = controller.decide(ask(target_accuracy=0.93, max_tokens_total=300))
    assert decision.action == MIDDLE
    assert not decision.feasible


def test_nothing_admissible_gives_the_cheapest_with_a_flag(controller):
    decision = controller.decide(ask(target_accuracy=0.5, deadline_s=1e-6))
    assert decision.action == CHEAP
    assert not decision.feasible


def test_strict_requests_get_an_error_that_says_the_attainable(controller):
    with pytest.raises(
        InfeasibleError, match=r"the target 0\.99 is one of all traffic, of which these models are right on 0\.94 at most; on this query"
    ):
        controller.decide(ask(target_accuracy=0.99, strict=True))
    with pytest.raises(InfeasibleError, match="no action fits the caps and the deadline; on this query"):
        controller.decide(ask(target_accuracy=0.4, strict=True, max_tokens_total=1))


def test_high_stakes_asks_for_the_lower_bound_on_this_query(controller):
    decision = controller.decide(ask(target_accuracy=0.5, high_stakes=True))
    assert decision.rule == "per_query"
    assert decision.action == MIDDLE
    assert decision.feasible


def test_forced_actions_are_taken_and_unknown_ones_recorded_without_prediction(controller):
    assert controller.decide(ask(forced=Action.parse(CHEAP))).rule == "forced"
    unknown = controller.decide(ask(forced=Action.parse("other/cot@9")))
    assert unknown.action == "other/cot@9"
    assert unknown.p_correct is None
    assert controller.decide(ask(max_tokens_total=1, strict=True, forced=Action.parse(DEAR))).action == DEAR


def test_only_models_that_are_up_are_used(controller):
    assert controller.decide(ask(target_accuracy=0.93, models=frozenset({"small"}))).action == MIDDLE
    with pytest.raises(InfeasibleError, match="is up"):
        controller.decide(ask(models=frozenset({"none"})))


def test_queries_far_from_training_get_the_guard_action(controller):
    decision = controller.decide(ask("far away", target_accuracy=0.4))
    assert decision.action == DEAR
    assert decision.degraded == "out_of_distribution"
    capped = controller.decide(ask("far away", target_accuracy=0.4, max_tokens_total=100))
    assert capped.action == CHEAP


def test_prices_decide_what_is_cheap(bundle):
    prices = {"small": Price(usd_per_1m_output=1e6), "large": Price(usd_per_1m_output=0.001)}
    dear_small = Controller(bundle, prices=prices, encoder=PlainEncoder())
    assert dear_small.decide(ask(target_accuracy=0.3)).action == DEAR


def test_under_load_the_same_request_never_costs_more_and_says_so(controller):
    models = {action.model for action in controller.bundle.actions}
    calm = controller.decide(ask(target_accuracy=0.9))
    costs = [calm.cost_usd]
    for factor in (1.5, 3.0, 10.0, 1000.0):
        decision = controller.decide(ask(target_accuracy=0.9, scarcity=dict.fromkeys(models, factor)))
        costs.append(decision.cost_usd)
        assert (decision.degraded == "congested") == (decision.action != calm.action)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


def test_a_deadline_that_rules_out_the_better_action_is_a_degradation(controller):
    relaxed, hurried = (controller.decide(ask(target_accuracy=0.9, deadline_s=seconds)) for seconds in (1e6, 1e-9))
    assert relaxed.degraded is None
    assert (hurried.degraded, hurried.feasible) == ("deadline", False)
    assert hurried.cost_usd < relaxed.cost_usd


def test_exploration_frequencies_match_the_logged_propensities(bundle):
    controller = Controller(bundle, prices={}, epsilon=0.6, seed=3, encoder=PlainEncoder())
    decisions = [controller.decide(ask(target_accuracy=0.4)) for _ in range(1500)]
    for action in ACTIONS:
        chosen = [decision for decision in decisions if decision.action == action]
        assert len({decision.propensity for decision in chosen}) == 1
        assert len(chosen) / len(decisions) == pytest.approx(chosen[0].propensity, abs=0.05)
        assert all(decision.explored == (action != CHEAP) for decision in chosen)


def test_exploration_keeps_to_the_cap_and_to_the_request(bundle):
    controller = Controller(bundle, prices={}, epsilon=1.0, encoder=PlainEncoder())
    assert {controller.decide(ask(target_accuracy=0.4, max_tokens_total=100)).action for _ in range(50)} == {CHEAP}
    assert {controller.decide(ask(target_accuracy=0.4, explore=False)).propensity for _ in range(20)} == {1.0}


@given(st.text(st.characters()))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_makes_a_decision_fail(controller, text):
    assert controller.decide(ask(text)).action in ACTIONS


@pytest.mark.parametrize("text", ["x" * 200_000, "\ud800", "", "\0"])
def test_odd_texts_are_decided(controller, text):
    assert controller.decide(ask(text)).action in ACTIONS


def test_explanation_names_features_predictions_frontier_and_rule(controller):
    said = controller.explain(ask(target_accuracy=0.93))
    assert said["action"] == controller.decide(ask(target_accuracy=0.93)).action
    assert said["rule"] == "average"
    assert said["multiplier_usd"] > 0
    assert [entry["action"] for entry in said["predictions"]] == list(ACTIONS)
    assert set(said["frontier"]) <= set(ACTIONS)
    assert "numbers" in said["features"]
    json.dumps(said)


@pytest.fixture
def sure():
    return Controller(promising_bundle(), prices={}, encoder=PlainEncoder(), epsilon=0.5, budgets=Budgets({"paced": 1e-4}))


def test_a_promise_is_reported_with_the_most_that_can_be_promised(sure):
    kept = sure.decide(ask(target_accuracy=0.8, confidence=0.9))
    assert kept.guarantee == Guarantee(target=0.8, confidence=0.9, holds=True, attainable=kept.guarantee.attainable)
    broken = sure.decide(ask(target_accuracy=0.93, confidence=0.9))
    assert (broken.guarantee.holds, broken.feasible) == (False, False)
    assert 0.8 < broken.guarantee.attainable < 0.93
    assert sure.explain(ask(target_accuracy=0.8, confidence=0.9))["guarantee"]["holds"]


def test_nothing_is_said_of_promises_where_none_was_asked_for(sure):
    assert sure.decide(ask(target_accuracy=0.8)).guarantee is None
    assert sure.explain(ask(target_accuracy=0.8))["guarantee"] is None


def test_promised_decisions_are_not_explored(sure):
    decisions = [sure.decide(ask(target_accuracy=0.4, confidence=0.9)) for _ in range(40)]
    assert {decision.propensity for decision in decisions} == {1.0}
    assert not any(decision.explored for decision in decisions)


def test_a_strict_promise_that_cannot_be_made_says_on_what_and_what_would_help(sure, controller):
    with pytest.raises(InfeasibleError, match=r"400 held-out queries promise at most 0\.\d+ with 90% confidence: 0\.92 needs about \d+"):
        sure.decide(ask(target_accuracy=0.92, confidence=0.9, strict=True))
    with pytest.raises(InfeasibleError, match=r"0 held-out queries .* train on more queries"):
        controller.decide(ask(target_accuracy=0.5, confidence=0.9, strict=True))
    with pytest.raises(InfeasibleError, match="no admissible action"):
        sure.decide(ask(target_accuracy=0.8, confidence=0.9, strict=True, max_tokens_total=100))
    assert sure.decide(ask(target_accuracy=0.8, confidence=0.9, strict=True)).guarantee.holds


def test_a_forced_action_is_promised_nothing(sure):
    forced = sure.decide(ask(target_accuracy=0.3, confidence=0.9, forced=Action.parse(DEAR)))
    assert (forced.feasible, forced.guarantee.holds) == (True, False)
    elsewhere = sure.decide(ask(confidence=0.9, forced=Action.parse("other/cot@9"), models=frozenset({"other"})))
    assert elsewhere.guarantee.attainable is None


def test_a_request_that_wants_a_promise_is_not_held_to_its_tiers_budget(sure):
    assert sure.decide(ask(tier="paced")).rule == "budget"
    own = sure.decide(ask(tier="paced", confidence=0.9, defaults=Constraints(target_accuracy=0.7)))
    assert (own.rule, own.guarantee.holds) == ("average", True)
    assert sure.decide(ask(tier="paced", defaults=Constraints(target_accuracy=0.7, confidence=0.9))).guarantee is None


def test_texts_read_together_are_decided_as_each_alone(controller):
    asks = [ask(text=text, target_accuracy=target) for text in ("2 + 2?", "Sort: c, a, b.", "") for target in (0.4, 0.93)]
    together = controller.read([each.query.text for each in asks])
    for each, seen in zip(asks, together, strict=True):
        alone, read = controller.decide(each), controller.decide(each, seen)
        assert (read.action, read.alternatives, read.embedding) == (alone.action, alone.alternatives, alone.embedding)
        assert (read.p_correct, read.cost_usd) == pytest.approx((alone.p_correct, alone.cost_usd))
