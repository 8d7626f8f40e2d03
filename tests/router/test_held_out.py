"""The queries a bundle keeps: they survive a bundle whatever they hold, and what does not fit together is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.router.held_out import CELLS, HeldOut, held_out_arrays, held_out_from
from rheostat.router.predictor import PriceVector


def kept(n: int = 20, a: int = 3, seed: int = 0) -> HeldOut:
    rng = np.random.default_rng(seed)
    cells = [rng.random((n, a)).astype(np.float32).astype(float) for _ in CELLS]
    return HeldOut(*cells, fresh=np.arange(n) % 2 == 1, far=np.arange(n) % 5 == 0)


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_round_trip_is_exact(n, a, seed):
    before = kept(n, a, seed)
    for one, other in zip(before, held_out_from(held_out_arrays(before)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_queries_of_before_there_were_fresh_ones_cost_what_was_expected_and_promise_nothing():
    old = {name: values for name, values in held_out_arrays(kept()).items() if name.split(".")[1] in CELLS[:4]}
    found = held_out_from(old)
    np.testing.assert_array_equal(found.expected_tokens, found.tokens)
    assert not found.fresh.any()
    assert not found.far.any()


@pytest.mark.parametrize("name", [*CELLS, "fresh", "far"])
def test_arrays_of_other_lengths_are_refused(name):
    arrays = held_out_arrays(kept())
    with pytest.raises(ValueError, match="held-out queries of shapes"):
        held_out_from(arrays | {f"held_out.{name}": arrays[f"held_out.{name}"][:-1]})


def test_queries_that_are_all_fresh_are_refused():
    arrays = held_out_arrays(kept())
    with pytest.raises(ValueError, match="20 of 20 fresh"):
        held_out_from(arrays | {"held_out.fresh": np.ones(20, np.float32)})


def test_decisions_see_expected_costs_and_the_bill_is_of_true_ones():
    queries, prices = kept(), PriceVector(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.5, 0.5]))
    np.testing.assert_allclose(queries.cost_usd(prices), queries.tokens * [1, 2, 3] + queries.prompt_tokens / 2)
    np.testing.assert_allclose(queries.expected_usd(prices), queries.expected_tokens * [1, 2, 3] + queries.expected_prompt_tokens / 2)


def test_an_accuracy_to_aim_at_is_not_taken_from_fresh_queries():
    queries = kept()
    assert queries.accuracy_of(1) == pytest.approx(queries.reward[::2, 1].mean())
