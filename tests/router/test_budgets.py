"""Tiers with a budget, on their own and behind a controller whose traffic drifts."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.data.schema import Action, Constraints, Query
from rheostat.router.ask import Ask
from rheostat.router.budgets import Budgets
from rheostat.router.controller import Controller
from rheostat.router.rules import MultiplierPath
from rheostat.router.ruling import BUDGET
from tests.router.conftest import ACTIONS, TOKENS, PlainEncoder, known_bundle

PATH = MultiplierPath(np.array([0.0, 1.0, 2.0, 4.0]), np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2.0, 3.0, 4.0]))


def test_a_tier_starts_where_the_held_out_queries_spend_its_budget():
    assert Budgets({"quick": 3.5}).multiplier("quick", PATH) == pytest.approx(2.0)


def test_a_tier_without_a_budget_has_no_multiplier():
    budgets = Budgets({"quick": 3.5})
    assert "quick" in budgets
    assert "deep" not in budgets
    assert budgets.multiplier("deep", PATH) is None
    budgets.spent("deep", 1.0)


def test_spending_more_than_the_budget_lowers_the_multiplier_of_that_tier_alone():
    budgets = Budgets({"quick": 3.0, "deep": 3.0})
    before = [budgets.multiplier(tier, PATH) for tier in ("quick", "deep")]
    budgets.spent("quick", 4.0)
    after = [budgets.multiplier(tier, PATH) for tier in ("quick", "deep")]
    assert after[0] < before[0]
    assert after[1] == before[1]


def test_budgets_may_change_at_any_time_and_a_pacer_whose_budget_stays_goes_on():
    budgets = Budgets({"stays": 3.0, "changes": 3.0, "goes": 3.0})
    for tier in ("stays", "changes", "goes"):
        budgets.multiplier(tier, PATH)
        budgets.spent(tier, 4.0)
    paced = budgets.multiplier("stays", PATH)
    budgets.configure({"stays": 3.0, "changes": 3.5, "comes": 3.5})
    started = Budgets({"new": 3.5}).multiplier("new", PATH)
    assert [budgets.multiplier(tier, PATH) for tier in ("stays", "changes", "goes", "comes")] == [paced, started, None, started]
    assert ("goes" in budgets, "comes" in budgets) == (False, True)


def test_a_budget_that_comes_back_begins_anew():
    budgets = Budgets({"quick": 3.0})
    first = budgets.multiplier("quick", PATH)
    budgets.spent("quick", 4.0)
    budgets.configure({})
    budgets.configure({"quick": 3.0})
    assert budgets.multiplier("quick", PATH) == first


def test_a_stream_of_decisions_costs_what_was_budgeted_though_prices_drift():
    usd = {spelling: tokens * 1e-6 for spelling, tokens in zip(ACTIONS, TOKENS, strict=True)}
    budgets = Budgets({"paced": 150e-6}, horizon=200.0)
    controller = Controller(known_bundle(), prices={}, encoder=PlainEncoder(), budgets=budgets)
    rng, spent = np.random.default_rng(0), []
    for number in range(6000):
        decision = controller.decide(Ask(Query.of_text("What is 1 + 1?"), tier="paced"))
        cost = usd[decision.action] * rng.uniform(0.5, 1.5) * (1.0 + number / 6000)
        budgets.spent("paced", cost)
        spent.append(cost)
    assert np.mean(spent) == pytest.approx(150e-6, rel=0.02)


def test_a_request_with_its_own_target_leaves_the_budget_aside():
    controller = Controller(known_bundle(), prices={}, encoder=PlainEncoder(), budgets=Budgets({"paced": 1e-6}))
    assert controller.decide(Ask(Query.of_text("x"), tier="paced")).rule == BUDGET
    own = Query.of_text("x", constraints=Constraints(target_accuracy=0.9))
    assert controller.decide(Ask(own, tier="paced")).rule == "average"
    assert controller.decide(Ask(Query.of_text("x"), tier="other")).rule == "average"
    assert Action.parse(controller.decide(Ask(Query.of_text("x"), tier="paced")).action) in known_bundle().actions


def test_a_forced_action_goes_before_a_budget_even_while_no_model_of_the_bundle_is_up():
    controller = Controller(known_bundle(), prices={}, encoder=PlainEncoder(), budgets=Budgets({"paced": 1e-6}))
    forced = Action.parse("other/cot@9")
    decision = controller.decide(Ask(Query.of_text("x"), tier="paced", forced=forced, models=frozenset({"other"})))
    assert (decision.action, decision.rule) == (str(forced), "forced")
