"""Promises of a fitted router: nothing that makes them is fitted on what tests them, and they hold on new queries."""

from __future__ import annotations

import functools
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.schema import Constraints, Query
from rheostat.router.ask import Ask
from rheostat.router.bundle import Bundle
from rheostat.router.controller import Controller
from rheostat.router.paths import Paths
from rheostat.training.fit import Fitted
from rheostat.training.guarantee_check import Promise, check_pools
from rheostat.training.judged import price_vector
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.promise_check import untouched_pool
from rheostat.training.split import fresh_half, split_rows
from tests.training.fitting import PRICES, WordEncoder, fit_table, fitted, simulated_table


@functools.cache
def small() -> tuple[OutcomeTable, Fitted]:
    table = simulated_table().rows(np.arange(300))
    return table, fit_table(table)


def paths(bundle: Bundle) -> Paths:
    return Paths(bundle, price_vector(bundle, PRICES))


def test_fresh_queries_change_nothing_but_what_is_promised():
    table, before = small()
    calibration = split_rows(table.texts, seed=0).calibration
    fresh = calibration[fresh_half([table.texts[row] for row in calibration], seed=0)]
    reward, tokens = table.reward.copy(), table.tokens.copy()
    reward[fresh], tokens[fresh] = 1 - reward[fresh], 7 * tokens[fresh]
    one, other = before.bundle, fit_table(replace(table, reward=reward, tokens=tokens)).bundle
    np.testing.assert_array_equal(other.canary_p, one.canary_p)
    np.testing.assert_array_equal(other.held_out.p_correct, one.held_out.p_correct)
    assert (other.guard.limit, other.guard.action) == (one.guard.limit, one.guard.action)
    assert other.held_out.accuracy_of(0) == one.held_out.accuracy_of(0)
    every = paths(one).every
    np.testing.assert_array_equal(paths(other).of(every).multiplier, paths(one).of(every).multiplier)
    assert paths(other).promised(every, 0.9).attainable != paths(one).promised(every, 0.9).attainable


def test_promises_hold_on_new_queries_over_two_hundred_splits():
    pool = untouched_pool(fitted(), PRICES, encoder=WordEncoder())
    check = check_pools([pool], Promise(0.5, 0.1, 200, 0), n=len(simulated_table()))
    assert check.miss_rate <= check.miss_rate_allowed < check.plugin_miss_rate
    assert check.excess <= check.excess_allowed


def test_the_report_promises_what_a_request_is_promised():
    bundle, promises = fitted().bundle, fitted().evaluation.promises
    controller = Controller(bundle, prices=PRICES, encoder=WordEncoder())
    for point in promises.points[::10]:
        asked = Constraints(target_accuracy=point.target, confidence=promises.confidence)
        told = controller.decide(Ask(Query.of_text("What is 3 + 4?", constraints=asked))).guarantee
        assert (told.holds, told.attainable) == (point.holds, promises.attainable)


def test_promises_survive_a_bundle(tmp_path):
    bundle = fitted().bundle
    loaded = Bundle.load(bundle.save(tmp_path / "bundle"))
    every = paths(bundle).every
    assert loaded.held_out.fresh.sum() == bundle.held_out.fresh.sum() > 0
    np.testing.assert_allclose(paths(loaded).promised(every, 0.9).low, paths(bundle).promised(every, 0.9).low, atol=0.02)


def test_a_promised_policy_costs_no_less_than_the_estimate_up_to_the_most_that_is_promised():
    evaluation = fitted().evaluation
    for target, promised in zip(evaluation.targets, evaluation.promises.points, strict=True):
        assert promised.target == target.target
        assert promised.holds == (promised.target <= evaluation.promises.attainable)
        assert promised.low >= min(promised.target, evaluation.promises.attainable)
        assert not promised.holds or promised.needed is None
    assert np.mean([point.cost_ratio for point in evaluation.promises.points if point.holds]) > 1


def test_the_most_that_is_promised_is_said_with_what_more_would_take():
    promises = fitted().evaluation.promises
    assert f"{promises.n} fresh queries promise" in str(promises)
    assert "needs about" in str(promises)
    hopeless = msgspec.structs.replace(promises, points=[msgspec.structs.replace(promises.points[-5], target=0.95, needed=None)])
    assert "0.95 is out of reach" in str(hopeless)
    assert str(msgspec.structs.replace(promises, points=[])).endswith("at most.")


def test_a_log_too_small_to_promise_from_is_fitted_and_promises_nothing():
    table, _ = small()
    evaluation = fit_table(table.rows(np.arange(60))).evaluation
    assert evaluation.promises.n < 12
    assert evaluation.promises.attainable < 0.9
    assert not evaluation.promises.points[-1].holds


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_confidence_outside_the_unit_interval_is_refused(confidence):
    with pytest.raises(DatasetError, match="between 0 and 1"):
        fit_table(simulated_table(), confidence=confidence)


def test_few_new_queries_are_far_from_what_a_router_was_trained_on():
    bundle, test = fitted().bundle, fitted().test
    embeddings = WordEncoder().encode(list(test.texts))
    assert bundle.guard.far(embeddings).mean() < 0.01
    assert bundle.held_out.far[bundle.held_out.fresh].mean() < 0.02
