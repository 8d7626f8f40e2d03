"""Fitting a lexicon: it finds what questions differ by, from their words alone."""

from __future__ import annotations

import numpy as np

from rheostat.training.lexicon import MAX_TEXTS, TEXTS_PER_DIRECTION, TextRows, fit_lexicon, lexicon_for
from tests.router.test_lexicon import Letters, Wordless

SORTS, SUMS = [11, 12, 13], [21, 22, 23]


def texts(n: int = 200) -> list[list[int]]:
    """Two kinds of question by turns, and a word of each one's own."""
    return [[*(SUMS if number % 2 else SORTS), 1000 + number] for number in range(n)]


def test_questions_of_a_kind_are_near_and_others_far():
    lexicon = fit_lexicon(texts(), dimension=2)
    rows = lexicon.vectors([[*SORTS, 5], [*SORTS, 6], [*SUMS, 7]])
    assert rows[0] @ rows[1] > 0.99
    assert abs(rows[0] @ rows[2]) < 0.01


def test_a_word_of_one_text_alone_says_nothing():
    lexicon = fit_lexicon(texts(), dimension=2)
    np.testing.assert_array_equal(lexicon.vectors([[1000]]), lexicon.vectors([[]]))


def test_the_same_texts_give_the_same_lexicon():
    np.testing.assert_array_equal(fit_lexicon(texts()).table, fit_lexicon(texts()).table)


def test_few_texts_give_few_directions_and_fewer_give_none():
    assert fit_lexicon(texts(3 * TEXTS_PER_DIRECTION)).dimension == 3
    assert fit_lexicon(texts(TEXTS_PER_DIRECTION - 1)) is None
    assert fit_lexicon([]) is None
    assert fit_lexicon([[]] * 200) is None
    assert fit_lexicon([[number] for number in range(200)]) is None


def test_very_many_texts_are_thinned_evenly():
    many = texts(2 * MAX_TEXTS + 1)
    np.testing.assert_array_equal(fit_lexicon(many, dimension=1).table, fit_lexicon(many[::3], dimension=1).table)


def test_an_encoder_without_tokens_gets_no_lexicon():
    words = ["add one", "add two"] * 100
    assert lexicon_for(Wordless(), words) is None
    assert lexicon_for(Letters(), words).dimension > 0


def test_rows_are_worded_by_the_train_texts_only():
    words = [f"{'add' if number % 2 else 'sort'} {number}" for number in range(220)]
    read = TextRows.of(Letters(), words)
    train = np.arange(200)
    rows = read.worded(train)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
    changed = TextRows.of(Letters(), [*words[:200], *("quite other words" for _ in range(20))])
    np.testing.assert_array_equal(changed.worded(train)[:200], rows[:200])


def test_without_tokens_or_with_too_few_texts_the_embeddings_stay_alone():
    words = ["add", "sort"]
    for encoder in (Letters(), Wordless()):
        read = TextRows.of(encoder, words)
        np.testing.assert_array_equal(read.worded(np.arange(2)), read.vectors)
