"""Intervals by query."""

import numpy as np

from rheostat.training.bootstrap import Bootstrap


def test_intervals_cover_the_truth_at_their_level():
    rng = np.random.default_rng(0)
    boot = Bootstrap(120, seed=0)
    intervals = [boot.interval((rng.random(120) < 0.7).astype(float)) for _ in range(300)]
    covered = np.mean([interval.low <= 0.7 <= interval.high for interval in intervals])
    assert 0.9 <= covered <= 0.99


def test_the_same_seed_draws_the_same_queries_so_that_differences_are_paired():
    values = np.random.default_rng(1).random(50)
    assert Bootstrap(50, seed=3).interval(values) == Bootstrap(50, seed=3).interval(values)
