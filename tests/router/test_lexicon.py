"""Lexicons: which pieces of words a text holds, as unit vectors next to those of an encoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.router.lexicon import BITS, LexicalEncoder, Lexicon, buckets, joined, with_lexicon

TOKENS = st.lists(st.integers(0, 200_000), max_size=50)


class Letters:
    """One token a character; all vectors are the same."""

    encoder_id = "letters"
    dimension = 2

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.tile(np.array([[0.6, 0.8]], np.float32), (len(texts), 1))

    def tokens(self, texts: list[str]) -> list[list[int]]:
        return [list(map(ord, text)) for text in texts]

    def read(self, texts: list[str]) -> tuple[np.ndarray, list[list[int]]]:
        return self.encode(texts), self.tokens(texts)


class Wordless:
    """An encoder without tokens."""

    encoder_id = "wordless"
    dimension = 2

    def encode(self, texts: list[str]) -> np.ndarray:
        return Letters().encode(texts)


def lexicon(dimension: int = 3, seed: int = 0) -> Lexicon:
    return Lexicon(np.random.default_rng(seed).standard_normal((1 << BITS, dimension)).astype(np.float32))


@given(TOKENS)
def test_buckets_are_different_ascending_and_within_the_table(tokens):
    found = buckets(tokens)
    assert np.all(np.diff(found) > 0)
    assert np.all((found >= 0) & (found < 1 << BITS))
    assert len(found) <= max(0, 2 * len(set(tokens)) + len(tokens))


@given(TOKENS)
def test_repeating_a_text_adds_only_the_pair_where_the_copies_meet(tokens):
    once, twice = set(buckets(tokens)), set(buckets(tokens * 2))
    assert once <= twice
    assert len(twice) <= len(once) + 1


def test_order_matters_and_so_does_being_a_pair():
    assert set(buckets([1, 2])) != set(buckets([2, 1]))
    assert set(buckets([1])) | set(buckets([2])) < set(buckets([1, 2]))


def test_buckets_are_spread_evenly():
    rng = np.random.default_rng(0)
    for found in (np.arange(1 << BITS)[:, None], rng.integers(0, 30_000, (1 << BITS, 2))):
        counts = np.bincount(np.concatenate([buckets(row) for row in found.tolist()]), minlength=1 << BITS)
        # When balls fall at random, e^-(balls per bin) of the bins stay empty.
        assert (counts == 0).mean() < np.exp(-counts.mean()) + 0.01


@given(st.lists(TOKENS, max_size=4))
def test_every_text_has_a_vector_of_norm_one(texts):
    rows = lexicon().vectors(texts)
    assert rows.shape == (len(texts), 3)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)


def test_a_text_of_unknown_pieces_gives_the_first_unit_vector():
    nothing = Lexicon(np.zeros((1 << BITS, 2), np.float32))
    np.testing.assert_array_equal(nothing.vectors([[1, 2], []]), [[1, 0], [1, 0]])


@pytest.mark.parametrize("shape", [(1 << BITS,), (10, 3), (1 << BITS, 0)])
def test_a_table_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="a lexicon is"):
        Lexicon(np.zeros(shape, np.float32))


def test_an_encoder_and_a_lexicon_stand_side_by_side_with_norm_one():
    both = with_lexicon(Letters(), lexicon())
    rows = both.encode(["add", "sort", ""])
    assert isinstance(both, LexicalEncoder)
    assert (rows.shape, both.dimension) == ((3, 5), 5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(rows[:, :2], np.tile([0.6, 0.8], (3, 1)) * 0.5**0.5, rtol=1e-6)
    np.testing.assert_allclose(rows, joined(Letters().encode(["a"] * 3), lexicon().vectors(Letters().tokens(["add", "sort", ""]))))


def test_the_id_tells_lexicons_apart_and_none_changes_nothing():
    base = Letters()
    ids = {with_lexicon(base, each).encoder_id for each in (None, lexicon(seed=0), lexicon(seed=1), lexicon(seed=0))}
    assert len(ids) == 3
    assert with_lexicon(base, None) is base


def test_an_encoder_without_tokens_cannot_have_a_lexicon():
    with pytest.raises(ValueError, match="tokens, which the encoder wordless does not give"):
        with_lexicon(Wordless(), lexicon())
