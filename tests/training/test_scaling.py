"""The law is found again where it holds, and a knee is told only where more compute pays."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.training.scaling import growth

SIZES = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


def rewards(p: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Queries of uniform difficulty, right where it is below the size's chance: so that sizes are paired."""
    return (np.random.default_rng(seed).random((n, 1)) < p).astype(float)


@pytest.mark.parametrize("scale", [1.0, 3.0, 8.0])
def test_the_law_is_found_again(scale: float) -> None:
    p = 0.3 + 0.5 * (1 - np.exp(-(SIZES - 1) / scale))
    found = growth(SIZES, np.tile(p, (50, 1)))

    assert found.law is not None
    assert found.law.start == pytest.approx(0.3, abs=0.02)
    assert found.law.scale == pytest.approx(scale, rel=0.15)
    assert found.law.knee == pytest.approx(1 + scale * np.log(10), rel=0.15)


def test_the_knee_of_a_clear_gain_has_an_interval_around_it() -> None:
    found = growth(SIZES, rewards(0.3 + 0.5 * (1 - np.exp(-(SIZES - 1) / 2)), 400))

    assert found.verdict == "pays"
    assert found.knee is not None
    assert found.knee.low <= found.knee.value <= found.knee.high


@pytest.mark.parametrize(("p", "verdict"), [(np.full(5, 0.5), "no clear gain"), (np.linspace(0.7, 0.3, 5), "hurts")])
def test_where_more_does_not_pay_there_is_no_knee(p: np.ndarray, verdict: str) -> None:
    found = growth(SIZES, rewards(p, 300))

    assert (found.verdict, found.knee) == (verdict, None)


def test_two_sizes_give_a_gain_and_no_law() -> None:
    found = growth(SIZES[:2], rewards(np.array([0.2, 0.8]), 100))

    assert (found.verdict, found.law) == ("pays", None)


def test_chance_is_called_a_gain_or_a_loss_at_most_as_often_as_its_level_says() -> None:
    verdicts = [growth(SIZES, (np.random.default_rng(seed).random((80, 5)) < 0.5).astype(float)).verdict for seed in range(60)]

    assert sum(verdict != "no clear gain" for verdict in verdicts) <= 9  # 3 are expected; more than 9 in 0.1% of cases


def test_two_questions_are_too_few_to_say_that_more_pays() -> None:
    found = growth(SIZES, np.tile([0.0, 0.0, 0.5, 1.0, 1.0], (2, 1)))

    assert (found.gain.value, found.verdict, found.knee) == (1.0, "no clear gain", None)
