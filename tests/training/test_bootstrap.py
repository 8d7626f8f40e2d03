"""Intervals by query."""

import numpy as np
import pytest

from rheostat.training.bootstrap import Bootstrap, Interval


def test_intervals_cover_the_truth_at_their_level():
    rng = np.random.default_rng(0)
    boot = Bootstrap(120, seed=0)
    intervals = [boot.interval((rng.random(120) < 0.7).astype(float)) for _ in range(300)]
    covered = np.mean([interval.low <= 0.7 <= interval.high for interval in intervals])
    assert 0.9 <= covered <= 0.99


def test_the_same_seed_draws_the_same_queries_so_that_differences_are_paired():
    values = np.random.default_rng(1).random(50)
    assert Bootstrap(50, seed=3).interval(values) == Bootstrap(50, seed=3).interval(values)


def test_an_interval_is_written_in_the_form_of_its_numbers():
    assert f"{Interval(0.05, -0.0101, 0.0909):+.3f}" == "+0.050 (-0.010 to +0.091)"
    assert f"{Interval(0.5, 0.25, 0.75)}" == str(Interval(0.5, 0.25, 0.75))


def rarely_lost(n: int, chance: float, rng: np.random.Generator) -> np.ndarray:
    """Differences of mean zero: a little won on most queries, a whole reward lost on few."""
    return np.where(rng.random(n) < chance, -1.0, chance / (1 - chance))


@pytest.mark.parametrize(("n", "losses"), [(8, 1.5), (20, 3.0), (100, 4.4), (400, 6.4)])
def test_what_is_no_better_seldom_looks_better_for_sure_also_where_few_losses_were_seen(n, losses):
    rng = np.random.default_rng(n)
    drawn = [rarely_lost(n, losses / n, rng) for _ in range(600)]
    wrong = np.mean([Bootstrap(n, seed=seed).sure_interval(values).low > 0 for seed, values in enumerate(drawn)])
    assert wrong <= 0.04


def test_a_sure_interval_of_agreement_is_the_exact_one_of_what_was_never_seen():
    n = 30
    found = Bootstrap(n, resamples=20_000).sure_interval(np.zeros(n))
    unseen = 1 - 0.025 ** (1 / n)
    assert (found.value, found.low, found.high) == pytest.approx((0, -unseen, unseen), abs=0.005)


def test_a_sure_interval_of_many_queries_is_hardly_wider_than_a_plain_one():
    values = np.random.default_rng(0).normal(0.05, 0.3, 2000)
    boot = Bootstrap(2000)
    plain, sure = boot.interval(values), boot.sure_interval(values)
    assert sure.value == plain.value
    assert sure.low == pytest.approx(plain.low, abs=0.003)
    assert sure.high == pytest.approx(plain.high, abs=0.003)


def test_what_may_be_lost_is_at_least_what_was_lost():
    values = np.array([0.1] * 9 + [-5.0])
    assert Bootstrap(10).sure_interval(values).low < -1.0


@pytest.mark.parametrize(("p", "n"), [(1.0, 9), (0.99, 40), (0.5, 40), (0.02, 100), (0.0, 9)])
def test_shares_are_covered_also_where_all_are_right_or_all_wrong(p, n):
    rewards = (np.random.default_rng(n).random((n, 400)) < p).astype(float)
    found = Bootstrap(n).shares(rewards)
    assert np.mean([each.low <= p <= each.high for each in found]) >= 0.9
    assert all(0 <= each.low < each.high <= 1 for each in found)
    assert all(each.low <= each.value <= each.high for each in found)


def test_shares_of_rewards_on_both_sides_have_percentile_intervals():
    rewards = np.random.default_rng(0).random((500, 3))
    boot = Bootstrap(500)
    for column, found in enumerate(boot.shares(rewards)):
        plain = boot.interval(rewards[:, column])
        assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high))
