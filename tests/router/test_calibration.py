"""Calibrators: properties of the maps, and truth recovered from simulated labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rheostat.router.calibration import (
    Platt,
    calibration_error,
    fit_band,
    fit_isotonic,
    fit_platt,
    logit,
    pool_adjacent_violators,
    reliability,
    sigmoid,
)


def distorted(n: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.02, 0.98, (n, 2))
    return logit(truth) * 2.0 + 0.7, (rng.random((n, 2)) < truth).astype(float), truth


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_calibrators_undo_a_known_distortion(fit):
    logits, reward, truth = distorted()
    calibrator = fit(logits, reward, np.ones_like(reward))
    assert np.abs(calibrator(logits) - truth).mean() < 0.03
    assert calibration_error(calibrator(logits), reward, np.ones_like(reward)) < 0.02


def test_platt_stays_near_the_identity_without_labels():
    platt = fit_platt(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2)))
    np.testing.assert_allclose(platt.slope, 1.0)
    np.testing.assert_allclose(platt.intercept, 0.0)


def test_platt_survives_an_action_that_is_always_right():
    logits = np.random.default_rng(0).normal(size=(200, 1))
    platt = fit_platt(logits, np.ones_like(logits), np.ones_like(logits))
    assert np.isfinite(platt.slope).all()
    assert platt(logits).min() > 0.7


def test_platt_never_turns_an_ordering_round():
    logits = np.linspace(-3, 3, 300)[:, None]
    assert fit_platt(logits, sigmoid(-3 * logits), np.ones_like(logits)).slope >= 0


@given(hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-5, 5)))
def test_pooled_levels_rise_and_keep_the_mean(values):
    levels, lengths = pool_adjacent_violators(values, np.ones(len(values)))
    assert (np.diff(levels) > 0).all()
    assert lengths.sum() == len(values)
    assert (levels * lengths).sum() == pytest.approx(values.sum(), abs=1e-6)


def test_band_contains_the_truth_of_its_bins():
    logits, reward, truth = distorted()
    platt = fit_platt(logits, reward, np.ones_like(reward))
    p = platt(logits)
    band = fit_band(p, reward, np.ones_like(reward))
    assert (band.low(p) <= p).all()
    assert (band.high(p) >= p).all()
    inside = (truth >= band.low(p) - 0.02) & (truth <= band.high(p) + 0.02)
    assert inside.mean() > 0.95


def test_band_of_a_biased_predictor_reaches_down_to_what_was_seen():
    p, reward = np.full((500, 1), 0.9), np.zeros((500, 1))
    assert fit_band(p, reward, np.ones_like(p)).low(np.array([0.9]))[0] == 0.0


def test_reliability_counts_every_observed_cell():
    weight = np.array([[1.0], [0.0], [1.0]])
    points = reliability(np.array([[0.95], [0.5], [1.0]]), np.array([[1.0], [1.0], [0.0]]), weight)
    assert [point["n"] for point in points] == [2.0]
    assert points[0]["observed"] == 0.5


def test_extreme_logits_stay_probabilities():
    p = Platt(np.ones(1), np.zeros(1))(np.array([[-1e9], [1e9]]))
    assert p.ravel().tolist() == [0.0, 1.0]
