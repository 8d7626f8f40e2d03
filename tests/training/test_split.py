"""Splits by text: what they keep together and apart."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.training.split import distinct, fresh_half, thinned

TEXTS = [f"question {i}" for i in range(600)]


def test_about_half_of_the_queries_stay_fresh_and_equal_texts_are_on_one_side():
    twice = [*TEXTS, *(f" Question  {text.split()[1]}" for text in TEXTS)]
    fresh = fresh_half(twice, seed=0)
    np.testing.assert_array_equal(fresh[:600], fresh[600:])
    assert fresh.mean() == pytest.approx(0.5, abs=0.1)


def test_a_query_stays_fresh_as_the_log_grows_and_other_seeds_draw_others():
    np.testing.assert_array_equal(fresh_half([*TEXTS, "a new one"], seed=0)[:600], fresh_half(TEXTS, seed=0))
    assert (fresh_half(TEXTS, seed=0) != fresh_half(TEXTS, seed=1)).any()


def test_a_question_asked_again_is_no_further_query():
    rows = np.array([1, 2, 5, 8, 9])
    texts = ["a", "b", "c", "d", "e", "B ", "f", "g", "c", " b"]
    assert distinct(texts, rows).tolist() == [1, 2]  # b, c
    assert distinct(TEXTS, np.arange(600)).tolist() == list(range(600))


@pytest.mark.parametrize("n", [0, 1, 10, 11, 25, 1000])
def test_thinned_rows_are_few_enough_and_evenly_drawn(n):
    rows = np.arange(n)
    few = thinned(rows, 10)
    assert len(few) <= 10
    assert len(few) >= min(n, 6)
    assert len(set(np.diff(few).tolist())) <= 1
