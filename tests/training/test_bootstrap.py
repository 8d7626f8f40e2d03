"""Intervals by query."""

import numpy as np

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
