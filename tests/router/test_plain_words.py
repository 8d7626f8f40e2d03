"""Words looked up give the tokens that the tokenizer itself gives."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Whitespace

from rheostat.router.plain_words import PlainWords

MARKS = [mark for mark in string.punctuation if mark != "~"]  # which is not in the vocabulary
PIECES = ["[UNK]", "[CLS]", *"abc012", *(f"##{c}" for c in "abc01"), "ab", "##bc", "abcab", *MARKS]
WORDS = st.sampled_from(["ab", "Ab", "abcab", "c2", "22", "x", "a" * 101, "a" * 100, "[CLS]", "[", "~", "##b", "\x0b", "\x00", "é", "中"])


def tokenizer(*, lowercase: bool = True) -> Tokenizer:
    made = Tokenizer(WordPiece({piece: at for at, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer = BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = BertPreTokenizer()
    made.add_special_tokens(["[UNK]", "[CLS]"])
    return made


THEIRS = tokenizer()
OURS = PlainWords.of(THEIRS)


@given(st.one_of(st.text(string.printable), st.text(), st.lists(WORDS).map(" ".join), st.lists(WORDS).map("".join)))
@settings(max_examples=400, deadline=None)
@example("".join(map(chr, range(128))))
@example("ab" * 5_000)
def test_tokens_are_the_tokenizers_or_left_to_it(text):
    tokens = OURS.tokens(text)
    assert tokens is None or tokens == THEIRS.encode(text, add_special_tokens=False).ids


@given(st.text([*string.ascii_letters, *string.digits, *MARKS, *" \t\n\r"]))
def test_plain_text_is_never_left_to_the_tokenizer(text):
    assert OURS.tokens(text) is not None or "[unk]" in text.lower() or "[cls]" in text.lower()


@pytest.mark.parametrize("text", ["a[CLS]", "[unk]", "a\x0bb", "é", "\x7f", "\ud800"])
def test_text_that_is_not_plain_is(text):
    assert OURS.tokens(text) is None


def test_only_tokenizers_whose_words_stand_for_themselves_have_plain_words():
    other_model = Tokenizer(WordLevel({"a": 0}, unk_token="a"))
    other_words = tokenizer()
    other_words.pre_tokenizer = Whitespace()
    other_tokens = tokenizer()
    other_tokens.add_tokens([AddedToken("a b")])
    for each in (other_model, other_words, other_tokens, tokenizer(lowercase=False)):
        assert PlainWords.of(each) is None
