"""The feature row of a query: its embedding, then statistics of its text that embeddings blur (numbers, lengths, marks).

Linear in the text and cut at `MAX_CHARACTERS`: a hostile text costs no more than a long one. Knows nothing of actions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from rheostat.router.base import FeatureRow

MAX_CHARACTERS = 8_000

_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]+")
_CHOICE = re.compile(r"(?m)^\s*\(?[A-H][).:]\s")
_OPERATORS = "+-*/=<>%^"
_CODE_MARKS = "{}[];`_#\\"
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
    text = text[:MAX_CHARACTERS]
    length = max(len(text), 1)
    words = _WORD.findall(text)
    row = [
        math.log1p(len(text)),
        math.log1p(len(words)),
        sum(map(len, words)) / max(len(words), 1),
        math.log1p(max(map(len, words), default=0)),
        *_number_statistics(text, length),
        *(math.log1p(text.count(mark)) for mark in _OPERATORS),
        sum(text.count(mark) for mark in _CODE_MARKS) / length,
        math.log1p(len(_CHOICE.findall(text))),
        *(math.log1p(text.count(mark)) for mark in "\n,?."),
        math.log1p(text.count('"') + text.count("'")),
        sum(map(str.isupper, words)) / max(len(words), 1),
        0.0 if text.isascii() else sum(character > "\x7f" for character in text) / length,
        *_question_words(words),
    ]
    return np.array(row, dtype=np.float32)


def feature_names(dimension: int) -> tuple[str, ...]:
    """Names of the columns `feature_rows` gives for embeddings of that dimension."""
    return (*(f"embedding_{index}" for index in range(dimension)), *STATISTICS)


def feature_rows(embeddings: FeatureRow, texts: Sequence[str]) -> FeatureRow:
    """(n, dimension + len(STATISTICS)) rows from (n, dimension) embeddings and their n texts."""
    statistics = np.stack([text_statistics(text) for text in texts]) if texts else np.zeros((0, len(STATISTICS)), np.float32)
    return np.concatenate([embeddings, statistics], axis=1, dtype=np.float32)


def _number_statistics(text: str, length: int) -> list[float]:
    numbers = _NUMBER.findall(text)
    digits = sorted(map(len, numbers), reverse=True)
    return [
        sum(digits) / length,
        math.log1p(len(numbers)),
        float(min(digits[0], 50)) if digits else 0.0,
        float(min(digits[1], 50)) if len(digits) > 1 else 0.0,
        min(sum(digits) / len(digits), 50.0) if digits else 0.0,
        # Seventeen digits are enough for a logarithm, and int() of a long run of digits is quadratic.
        max((math.log1p(int(number[:17])) for number in numbers), default=0.0),
    ]


def _question_words(words: list[str]) -> list[float]:
    present = {word.lower() for word in words}
    return [float(word in present) for word in _QUESTION_WORDS]
