"""The feature row of a query: its embedding, then statistics of its text that embeddings blur (numbers, lengths, marks).

Linear in the text and cut at `MAX_CHARACTERS`: a hostile text costs no more than a long one. Knows nothing of actions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from string import ascii_letters, digits

import numpy as np

from rheostat.router.base import FeatureRow
from rheostat.router.readable import MAX_CHARACTERS

_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]+")
_CHOICE = re.compile(r"(?m)^[^\S\n]*\(?[A-H][).:]\s")  # of one line each: blank lines in a row cost no more than others
_OPERATORS = "+-*/=<>%^"
_CODE_MARKS = "{}[];`_#\\"
# ASCII text is split by a table of 256 bytes, in a fifth of the time that an expression takes.
_ONLY_LETTERS, _ONLY_DIGITS = (bytes(byte if chr(byte) in kept else 32 for byte in range(256)) for kept in (ascii_letters, digits))
_QUESTION_WORDS = ("what", "which", "how", "who", "when", "where", "why", "is", "are", "find", "if", "all", "not", "sort", "count")

STATISTICS = (
    "log_characters",
    "log_words",
    "mean_word_length",
    "longest_word",
    "digit_share",
    "numbers",
    "digits_of_longest_number",
    "digits_of_second_number",
    "mean_digits",
    "log_largest_number",
    *(f"operator_{mark}" for mark in _OPERATORS),
    "code_share",
    "choices",
    "lines",
    "commas",
    "questions",
    "sentences",
    "quotes",
    "upper_share",
    "non_ascii_share",
    *(f"asks_{word}" for word in _QUESTION_WORDS),
)


def text_statistics(text: str) -> FeatureRow:
    """(len(STATISTICS),) statistics of one text, in the order of `STATISTICS`; finite for every text."""
    return np.array(_statistics(text[:MAX_CHARACTERS]), dtype=np.float32)


def feature_names(dimension: int) -> tuple[str, ...]:
    """Names of the columns `feature_rows` gives for embeddings of that dimension."""
    return (*(f"embedding_{index}" for index in range(dimension)), *STATISTICS)


def feature_rows(embeddings: FeatureRow, texts: Sequence[str]) -> FeatureRow:
    """(n, dimension + len(STATISTICS)) rows from (n, dimension) embeddings and their n texts."""
    n, dimension = embeddings.shape
    rows = np.empty((n, dimension + len(STATISTICS)), np.float32)
    rows[:, :dimension] = embeddings
    for row, text in zip(rows, texts, strict=True):
        row[dimension:] = _statistics(text[:MAX_CHARACTERS])
    return rows


def _statistics(text: str) -> list[float]:
    length = max(len(text), 1)
    words = _words(text)
    lengths = list(map(len, words))
    n_words = max(len(words), 1)
    return [
        math.log1p(len(text)),
        math.log1p(len(words)),
        sum(lengths) / n_words,
        math.log1p(max(lengths, default=0)),
        *_number_statistics(text, length),
        *map(math.log1p, map(text.count, _OPERATORS)),
        sum(map(text.count, _CODE_MARKS)) / length,
        math.log1p(len(_CHOICE.findall(text))),
        *map(math.log1p, map(text.count, "\n,?.")),
        math.log1p(text.count('"') + text.count("'")),
        sum(map(str.isupper, words)) / n_words,
        (len(text) - len(text.encode("ascii", "ignore"))) / length,
        *map(float, map({*map(str.lower, words)}.__contains__, _QUESTION_WORDS)),
    ]


def _words(text: str) -> list[str]:
    return text.encode().translate(_ONLY_LETTERS).decode().split() if text.isascii() else _WORD.findall(text)


def _numbers(text: str) -> list[str]:
    return text.encode().translate(_ONLY_DIGITS).decode().split() if text.isascii() else _NUMBER.findall(text)


def _number_statistics(text: str, length: int) -> list[float]:
    numbers = _numbers(text)
    if not numbers:
        return [0.0] * 6
    lengths = sorted(map(len, numbers), reverse=True)
    n_digits = sum(lengths)
    return [
        n_digits / length,
        math.log1p(len(numbers)),
        float(min(lengths[0], 50)),
        float(min(lengths[1], 50)) if len(lengths) > 1 else 0.0,
        min(n_digits / len(lengths), 50.0),
        # Seventeen digits are enough for a logarithm, and int() of a long run of digits is quadratic.
        math.log1p(max(int(number[:17]) for number in numbers)),
    ]
