"""The predictor on known numbers: weights, calibration, costs and the row layout."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import lightgbm
import numpy as np
import pytest

from rheostat.data.errors import BundleError
from rheostat.router.arrays import predictor_arrays, predictor_from
from rheostat.router.calibration import Isotonic, logit
from rheostat.router.features import STATISTICS
from rheostat.router.predictor import LOGIT_LIMIT, MAX_LOG_SECONDS, MAX_LOG_TOKENS, Boosted, Linear, PriceVector
from tests.router.conftest import DIMENSION, P_CORRECT, TOKENS, constant, known_predictor

ROW = np.zeros(DIMENSION + len(STATISTICS), np.float32)


def test_prediction_joins_chances_tokens_and_prices():
    prices = PriceVector.of([1.0, 2.0, 3.0], [0.0, 0.0, 4.0])
    prediction = known_predictor().predict(ROW[None], prices, [100])[0]
    np.testing.assert_allclose(prediction.p_correct, P_CORRECT)
    np.testing.assert_allclose(prediction.p_low, P_CORRECT - 0.05)
    np.testing.assert_allclose(prediction.p_high, P_CORRECT + 0.05)
    np.testing.assert_allclose(prediction.tokens, TOKENS)
    np.testing.assert_allclose(prediction.cost_usd, (TOKENS * [1, 2, 3] + [0, 0, 25 * 4]) / 1e6)
    np.testing.assert_allclose(prediction.latency_s, TOKENS / 100)


def test_queries_together_cost_what_each_is_predicted_to_alone():
    prices = PriceVector.of([1.0, 2.0, 3.0], [5.0, 0.0, 4.0])
    predictor, lengths = known_predictor(), [0, 100, 4000]
    rows = np.tile(ROW, (3, 1))
    costs = predictor.costs.cost_usd(rows, np.array(lengths, dtype=np.float64), prices)
    together = predictor.predict(rows, prices, lengths)
    for cost, prediction, length in zip(costs, together, lengths, strict=True):
        np.testing.assert_array_equal(cost, prediction.cost_usd)
        np.testing.assert_array_equal(prediction, predictor.predict(ROW[None], prices, [length])[0])


def test_costs_asked_in_one_product_are_those_of_each_head():
    rng = np.random.default_rng(0)
    d, factors = len(ROW), rng.uniform(0.5, 2, (2, 3))
    mean, scale = rng.normal(size=d), rng.uniform(0.5, 2, d)
    heads = [Linear(mean, scale, rng.normal(size=(d, 3)), rng.normal(size=3)) for _ in range(2)]
    costs = replace(known_predictor().costs, log_tokens=heads[0], log_latency=heads[1], tokens_factor=factors[0], latency_factor=factors[1])
    rows = rng.normal(size=(7, d)).astype(np.float32)
    for values, head, factor, limit in zip(costs.effort(rows), heads, factors, (MAX_LOG_TOKENS, MAX_LOG_SECONDS), strict=True):
        np.testing.assert_allclose(values, np.expm1(np.clip(head.raw(rows), 0, limit)) * factor)
    assert costs.tokens(np.full((1, d), 1e30, np.float32)).max() <= np.expm1(MAX_LOG_TOKENS) * factors.max()


def test_cost_heads_that_see_features_in_different_ways_are_refused():
    costs = known_predictor().costs
    with pytest.raises(ValueError, match="in different ways"):
        replace(costs, log_latency=replace(costs.log_latency, mean=costs.log_latency.mean + 1))


def test_learners_are_mixed_by_weight_in_logits():
    one, other = constant(np.array([0.0, 1.0, 2.0])), constant(np.array([2.0, 1.0, 0.0]))
    predictor = replace(known_predictor(), learners=(one, other), weights=(0.75, 0.25))
    np.testing.assert_allclose(predictor.logits(ROW[None])[0], [0.5, 1.0, 1.5])


def test_odd_features_cannot_run_away():
    wild = replace(constant(np.zeros(3)), weights=np.full((len(ROW), 3), 1e6))
    logits = wild.logits(np.full((1, len(ROW)), 1e30, np.float32))
    assert (np.abs(logits) <= LOGIT_LIMIT).all()


def test_isotonic_predictors_survive_being_taken_apart():
    predictor = replace(known_predictor(), calibrator=Isotonic(np.array([0.0, 1.0]), np.array([0.2, 0.4])))
    arrays, texts, layout = predictor_arrays(predictor)
    rebuilt = predictor_from(arrays, layout, texts.__getitem__)
    np.testing.assert_allclose(rebuilt.p_correct(ROW[None])[0], 0.2 + 0.2 * P_CORRECT)
    assert texts == {}


def test_rows_repeat_the_query_for_every_action():
    learner = Boosted("", np.eye(DIMENSION)[:, :2], np.array([[1.0], [2.0], [3.0]]))
    features = np.arange(2 * len(ROW), dtype=np.float32).reshape(2, -1)
    rows = learner.rows(features).reshape(2, 3, -1)
    np.testing.assert_array_equal(rows[:, :, :2], np.repeat(features[:, None, :2], 3, axis=1))
    np.testing.assert_array_equal(rows[:, :, 2:-1], np.repeat(features[:, None, DIMENSION:], 3, axis=1))
    np.testing.assert_array_equal(rows[:, :, -1], [[1, 2, 3]] * 2)


def test_text_that_holds_no_trees_is_a_bundle_error():
    with pytest.raises(BundleError, match="do not parse"):
        _ = Boosted("not a model", np.eye(2), np.eye(2)).masks


def test_trees_predict_what_lightgbm_predicts_for_every_row():
    booster, learner = boosted()
    features = np.random.default_rng(1).normal(size=(5, len(ROW))).astype(np.float32)
    wanted = booster.predict(learner.rows(features), raw_score=True).reshape(5, 3)
    np.testing.assert_allclose(learner.logits(features), np.clip(wanted, -LOGIT_LIMIT, LOGIT_LIMIT), rtol=0, atol=1e-9)


def test_features_of_another_width_than_the_trees_were_fitted_on_are_a_bundle_error():
    _, learner = boosted()
    with pytest.raises(BundleError, match="and are given"):
        learner.logits(np.zeros((1, len(ROW) + 1), np.float32))


def test_predicting_with_trees_loads_no_library_of_training():
    _, learner = boosted()
    code = f"""if True:
        import sys, numpy as np
        from rheostat.router.predictor import Boosted
        text = sys.stdin.read()
        Boosted(text, np.eye({DIMENSION})[:, :2], np.array([[1.0], [2.0], [3.0]])).logits(np.zeros((1, {len(ROW)}), np.float32))
        print([name for name in ("lightgbm", "sklearn", "scipy", "pandas", "pyarrow") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], input=learner.text, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def boosted() -> tuple[lightgbm.Booster, Boosted]:
    """Trees over two projections, the statistics and one column of three actions."""
    shell = Boosted("", np.eye(DIMENSION)[:, :2], np.array([[1.0], [2.0], [3.0]]))
    features = np.random.default_rng(0).normal(size=(60, len(ROW))).astype(np.float32)
    rows = shell.rows(features)
    label = (rows[:, 0] + rows[:, -1] > 2).astype(float)
    settings = {"objective": "cross_entropy", "verbosity": -1, "num_threads": 1, "num_leaves": 15, "min_data_in_leaf": 5}
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, label), 20)
    return booster, replace(shell, text=booster.model_to_string())


def test_logits_and_chances_are_inverse_within_their_limits():
    p = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit(p))), p)
