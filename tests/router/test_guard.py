"""The guard: who is far from the training queries."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rheostat.router.guard import FIRST, Guard, distances


def unit_rows(n: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.one_of(st.integers(1, 20), st.integers(FIRST - 1, FIRST + 5)), st.integers(0, 100), st.floats(0.0, 2.0))
def test_many_queries_are_far_where_each_of_them_is(n_support, seed, limit):
    guard, queries = Guard(unit_rows(n_support, seed), limit, 0), unit_rows(8, seed + 1)
    apart = np.abs(distances(guard.support, queries) - limit) > 1e-5  # products of many rows may differ in the last digit
    assert guard.far(queries)[apart].tolist() == [guard.is_far(query) for query in queries[apart]]


def test_the_nearest_may_be_left_out_so_that_a_query_is_not_its_own_neighbour():
    support = unit_rows(12, 0)
    ranked = np.sort(1 - support @ support.T, axis=1)
    np.testing.assert_allclose(distances(support, support), ranked[:, 2], atol=1e-6)
    np.testing.assert_allclose(distances(support, support, skipped=1), ranked[:, 3], atol=1e-6)
