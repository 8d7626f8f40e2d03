"""Pacing on simulated traffic that drifts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rheostat.data.errors import ConfigError
from rheostat.router.pacing import Pacer
from rheostat.router.rules import average

ALL = np.ones(3, dtype=bool)


def drive(pacer: Pacer, n: int, *, drift: str, seed: int = 0) -> np.ndarray:
    """(n,) costs of queries of random difficulty, decided at the pacer's multiplier, while prices or difficulty drift."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    noise = rng.exponential(1.0, n)
    spent = np.zeros(n)
    for i in range(n):
        late = i / n
        level = {"none": 0.0, "step": 0.3 * (late > 0.5), "waves": 0.3 * math.sin(20 * late)}[drift]
        gain = np.array([0.0, 0.4, 0.6]) * min(max(hard[i] + level, 0.0), 1.0)
        cost = np.array([1.0, 4.0, 20.0]) * (3.0 if drift == "step" and late > 0.7 else 1.0)
        pick = average(0.3 + gain, cost, ALL, multiplier=pacer.multiplier)
        spent[i] = cost[pick] * noise[i]
        pacer.spent(float(spent[i]))
    return spent


@pytest.mark.parametrize("drift", ["none", "step", "waves"])
@pytest.mark.parametrize("budget", [4.0, 8.0])
def test_long_run_spend_is_within_two_percent_of_the_budget(drift, budget):
    pacer = Pacer(budget, multiplier=5.0, low=0.1, high=1000.0)
    spent = drive(pacer, 20_000, drift=drift)
    assert abs(spent.mean() / budget - 1) < 0.02
    assert pacer.saved == pytest.approx(20_000 * budget - spent.sum(), abs=1e-6 * spent.sum())


def test_overspending_lowers_the_multiplier_and_saving_raises_it():
    dear, cheap = (Pacer(1.0, multiplier=5.0, low=0.1, high=100.0) for _ in range(2))
    dear.spent(3.0)
    cheap.spent(0.0)
    assert dear.multiplier < 5.0 < cheap.multiplier


def test_the_multiplier_stays_in_its_range_and_comes_back():
    pacer = Pacer(1.0, multiplier=5.0, low=1.0, high=10.0)
    for _ in range(500):
        pacer.spent(0.0)
    assert pacer.multiplier == pytest.approx(10.0)
    for _ in range(2000):
        pacer.spent(5.0)
    assert pacer.multiplier == pytest.approx(1.0)


@pytest.mark.parametrize("cost", [0.0, 50.0])
def test_a_long_past_is_not_made_good_for_longer_than_its_horizon_says(cost):
    pacer = Pacer(1.0, multiplier=5.0, low=1.0, high=10.0, horizon=100.0)
    for _ in range(100_000):
        pacer.spent(cost)
    assert abs(pacer.saved) == 100.0
    for _ in range(200):
        pacer.spent(1.0 + math.copysign(1.0, pacer.saved))
    assert 1.0 < pacer.multiplier < 10.0


def test_one_very_dear_query_does_not_upset_it_but_is_paid_back():
    pacer = Pacer(1.0, multiplier=5.0, low=0.1, high=100.0)
    pacer.spent(400.0)
    assert pacer.multiplier > 2.5
    assert pacer.saved == -399.0


@pytest.mark.parametrize(
    "options", [{"budget": 0.0}, {"multiplier": 200.0}, {"low": 0.0}, {"rate": 1.0}, {"horizon": 0.0}, {"budget": float("nan")}]
)
def test_settings_that_cannot_work_are_refused(options):
    with pytest.raises(ConfigError, match="pacing cannot follow"):
        Pacer(**{"budget": 1.0, "multiplier": 5.0, "low": 1.0, "high": 100.0, **options})
