"""The sequential policy within a training: taken where it pays, left out where it does not."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from rheostat.router.bundle import Bundle
from rheostat.training import plans
from rheostat.training.baselines import Costed
from rheostat.training.fit import Fitted, fit
from rheostat.training.plans import Part, useful_arms
from rheostat.training.replay import label
from rheostat.training.sequential import Plan
from tests.training.fitting import PRICES, WordEncoder, simulated_log
from tests.training.test_draws import ACTIONS

LITTLE = Plan(depth=3, iterations=2, judge_epochs=3, epochs=1, tried=2, judge_width=16, gain_widths=(16, 8))


@functools.cache
def fitted() -> Fitted:
    log = simulated_log(700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            plans,
            "WORK",
            plans.sequential.Plan(depth=3, iterations=2, judge_epochs=3, epochs=1, tried=2, judge_width=16, gain_widths=(16, 8)),
        )
        return fit(label(log, ACTIONS), encoder=WordEncoder(), encoder_name="words", prices=PRICES, log=log)


def test_the_report_says_whether_it_is_used_and_why():
    report = fitted().evaluation.sequential
    assert report is not None
    assert report.used == (fitted().bundle.plan is not None)
    assert report.reason.startswith("used" if report.used else "not used")
    assert all(point.accuracy.low <= point.accuracy.value <= point.accuracy.high for point in report.points)
    assert report.gain_over_router is not None


def test_a_log_that_is_too_small_says_so():
    log = simulated_log(100)
    report = fit(label(log, ACTIONS), encoder=WordEncoder(), encoder_name="words", prices=PRICES, log=log).evaluation.sequential
    assert report is not None
    assert not report.used
    assert report.reason.startswith("not fitted")


def test_only_actions_that_the_router_takes_at_some_price_are_run():
    cost = np.tile([1.0, 2.0, 50.0], (60, 1))
    p = np.tile([0.5, 0.4, 0.9], (60, 1))
    part = Part(p, cost, Costed(p, cost, cost), cost)
    assert useful_arms(part) == (0, 2)


def test_a_learned_action_is_labelled_and_its_rule_is_in_the_bundle_or_the_published_one_stands():
    bundle = fitted().bundle
    learned = next(str(action) for action in bundle.actions if "learned" in str(action))
    assert set(bundle.stops) <= {learned}
    column = fitted().test.actions.index(learned)
    assert fitted().test.weight[:, column].all()


def test_the_bundle_round_trips_with_rule_and_plan(tmp_path):
    bundle = fitted().bundle
    back = Bundle.load(bundle.save(tmp_path / "bundle"))
    assert back.stops.keys() == bundle.stops.keys()
    assert (back.plan is None) == (bundle.plan is None)
