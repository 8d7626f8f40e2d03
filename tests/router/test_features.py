"""Features: named, finite, and cheap on any text."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.router.features import STATISTICS, feature_names, feature_rows, text_statistics
from rheostat.router.readable import MAX_CHARACTERS
from tests.growth import shortest


def statistic(text: str, name: str) -> float:
    return float(text_statistics(text)[STATISTICS.index(name)])


@given(st.text(st.characters()))
def test_every_text_has_finite_statistics(text):
    row = text_statistics(text)
    assert row.shape == (len(STATISTICS),)
    assert np.isfinite(row).all()


def test_numbers_are_counted_and_measured():
    text = "What is 345 + 98?"
    assert statistic(text, "numbers") == pytest.approx(np.log1p(2))
    assert statistic(text, "digits_of_longest_number") == 3
    assert statistic(text, "digits_of_second_number") == 2
    assert statistic(text, "asks_what") == 1
    assert statistic(text, "operator_+") == pytest.approx(np.log1p(1))


def test_choices_and_foreign_letters_are_seen():
    assert statistic("Pick:\nA) one\nB) two", "choices") == pytest.approx(np.log1p(2))
    assert statistic("día", "non_ascii_share") == pytest.approx(1 / 3)


@given(st.text(string.printable))
def test_ascii_text_has_the_statistics_it_has_beside_other_letters(text):
    # Behind a foreign mark it is read by expressions, and the mark is neither a letter nor a digit.
    alone, beside = (dict(zip(STATISTICS, text_statistics(each), strict=True)) for each in (text, f"{text}«"))
    for name in ("log_words", "mean_word_length", "longest_word", "numbers", "digits_of_longest_number", "mean_digits", "upper_share"):
        assert alone[name] == beside[name]


def test_rows_join_embedding_and_statistics_in_the_order_of_their_names():
    rows = feature_rows(np.ones((2, 3), np.float32), ["a", "b"])
    assert rows.shape == (2, len(feature_names(3)))
    assert feature_names(3)[:3] == ("embedding_0", "embedding_1", "embedding_2")
    np.testing.assert_array_equal(rows, [[1, 1, 1, *text_statistics(text)] for text in "ab"])
    assert feature_rows(np.zeros((0, 3), np.float32), []).shape == (0, len(feature_names(3)))


@pytest.mark.parametrize("piece", ["9", " ", "a\n(", "1,", "\n", "\u00a0\n", "é\n", "A", "(", "\r"])
def test_hostile_texts_cost_no_more_than_long_ones(piece):
    text = piece * 3_000_000
    row = text_statistics(text)
    plain = "What is 12 times 7, and why? " * 300
    assert shortest(lambda: text_statistics(text)) < 40 * shortest(lambda: text_statistics(plain))
    np.testing.assert_array_equal(row, text_statistics(text[:MAX_CHARACTERS]))
