"""Directions of means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.router.mean_direction import mean_direction

TABLE = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)


@given(st.lists(st.integers(0, 49), min_size=1, max_size=400))
def test_direction_is_that_of_the_mean_however_many_rows_there_are(rows):
    found, mean = np.empty(3, np.float32), TABLE[rows].astype(np.float64).mean(axis=0)
    mean_direction(TABLE, rows, into=found)
    np.testing.assert_allclose(found * np.linalg.norm(mean), mean, atol=1e-5)


@pytest.mark.parametrize("rows", [[], [0], [0, 0]])
def test_without_a_direction_it_is_the_first(rows):
    found = np.empty(2, np.float32)
    mean_direction(np.zeros((1, 2), np.float32), rows, into=found)
    assert found.tolist() == [1.0, 0.0]
