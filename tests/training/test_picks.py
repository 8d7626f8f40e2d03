"""Best of n against brute force over all orders."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.training.picks import best_graded, best_of
from rheostat.training.sample_log import Sampled

WAVES = st.sampled_from([(1,), (2,), (2, 1), (1, 1, 2), (3, 1)])
GRADES = st.sampled_from([0.0, 0.25, 0.5, 1.0])


def sampled(correct: list[float], scores: list[float], tokens: list[float] | None = None) -> Sampled:
    cells = np.array([correct])
    spent = np.array([tokens or correct])
    return Sampled(cells.astype(np.int16), cells, spent, cells[:, 0], cells, np.array([scores]), np.array([len(correct)]))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=7), st.data())
@settings(max_examples=60, deadline=None)
def test_best_of_n_equals_the_mean_over_all_ordered_subsets(rows, data):
    n = data.draw(st.integers(1, len(rows)))
    picks = [max(order, key=lambda row: row[1])[0] for order in itertools.permutations(rows, n)]
    exact = best_of(sampled([float(right) for right, _ in rows], [float(score) for _, score in rows]), n)
    np.testing.assert_allclose(exact, np.mean(picks), atol=1e-9)


def drawn(order, waves, enough):
    """What best-of-n by grades brings in one order: the best grade, the tokens and the waves."""
    seen, run = [], 0
    while run < len(waves) and not any(grade >= enough for grade, _ in seen):
        seen += order[len(seen) : len(seen) + waves[run]]
        run += 1
    return max(grade for grade, _ in seen), sum(tokens for _, tokens in seen), run


@given(st.lists(st.tuples(GRADES, st.integers(1, 9)), min_size=4, max_size=6), WAVES, st.sampled_from([0.3, 0.5, 1.0]))
@settings(max_examples=80, deadline=None)
def test_best_by_grades_equals_the_mean_over_all_orders(rows, waves, enough):
    truth = np.mean([drawn(order, waves, enough) for order in itertools.permutations(rows)], axis=0)
    grades, tokens = ([float(each[at]) for each in rows] for at in (0, 1))
    found = best_graded(sampled(grades, [0.0] * len(rows), tokens), waves, enough)
    np.testing.assert_allclose(np.concatenate(found), truth, atol=1e-9)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_in_one_wave_it_is_the_share_of_subsets_with_a_right_answer(rights, data):
    n = data.draw(st.integers(1, len(rights)))
    share = np.mean([any(subset) for subset in itertools.combinations(rights, n)])
    found = best_graded(sampled([float(right) for right in rights], [0.0] * len(rights)), (n,), 1.0)
    np.testing.assert_allclose(found.reward, share, atol=1e-9)


def test_queries_with_fewer_samples_than_are_drawn_raise_no_warning():
    short = Sampled(*(np.zeros((2, 3)),) * 3, np.zeros(2), *(np.zeros((2, 3)),) * 2, np.array([0, 3]))
    assert np.isfinite(np.concatenate(best_graded(short, (2, 1), 1.0))).all()
