"""What an answer says for itself: its form, its numbers next to the question's, and whether its equation holds.

Pure functions of two texts, the same when a score is fitted and when it is served. Knows nothing of votes or rewards.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

MISSING = -20.0  # below every ratio that occurs: what an answer or a question without numbers has for them
MAX_CHARS = 2_000  # of an answer or a question: a form shows early
_NUMBER = re.compile(r"-?\d[\d,]{0,40}\.?\d{0,40}")
_WORD = re.compile(r"\w+")
_PURE = re.compile(r"\s*[-+$]?\d[\d,]*(?:\.\d*)?%?\s*")
_SUM = re.compile(r"[\d+\-*/(). ]{3,80}")


class AnswerFeatures(NamedTuple):
    """One answer to one question; sizes are logarithms of 1 + the value, differences of them ratios."""

    length: float
    n_words: float
    n_numbers: float
    pure: float
    size: float
    negative: float
    whole: float
    last_digit: float
    repeats_number: float
    over_largest: float
    over_smallest: float
    over_sum: float
    n_shared: float
    n_left_over: float
    n_new: float
    n_asked: float
    quoted: float
    quoted_at: float
    words_shared: float
    equation: float


@dataclass(frozen=True, slots=True)
class Question:
    """A question as answers are held against it."""

    text: str
    numbers: tuple[float, ...]
    words: frozenset[str]

    @classmethod
    def of(cls, text: str | None) -> Question:
        """A question read once for all its answers; an unknown one is empty."""
        low = (text or "")[:MAX_CHARS].lower()
        return cls(low, _numbers(low), frozenset(_WORD.findall(low)))


def answer_features(answer: str, question: Question) -> AnswerFeatures:
    """The features of an answer, all finite."""
    low = answer[:MAX_CHARS].lower()
    words, numbers = _WORD.findall(low), _numbers(low)
    value = numbers[-1] if numbers else None
    size = MISSING if value is None else math.log1p(abs(value))
    asked = sorted(map(abs, question.numbers))
    comparable = value is not None and bool(asked)
    shared = (Counter(numbers) & Counter(question.numbers)).total()
    at = question.text.find(low)
    return AnswerFeatures(
        length=len(answer),
        n_words=len(words),
        n_numbers=len(numbers),
        pure=float(_PURE.fullmatch(low) is not None),
        size=size,
        negative=MISSING if value is None else float(value < 0),
        whole=MISSING if value is None else float(value == int(value)),
        last_digit=MISSING if value is None else float(abs(value) % 10),
        repeats_number=MISSING if value is None else float(value in question.numbers),
        over_largest=size - math.log1p(asked[-1]) if comparable else MISSING,
        over_smallest=size - math.log1p(asked[0]) if comparable else MISSING,
        over_sum=size - math.log1p(sum(asked)) if comparable else MISSING,
        n_shared=shared,
        n_left_over=len(asked) - shared,
        n_new=len(numbers) - shared,
        n_asked=len(asked),
        quoted=float(at >= 0),
        quoted_at=at / max(len(question.text), 1),
        words_shared=sum(word in question.words for word in words) / len(words) if words else MISSING,
        equation=_equation(low),
    )


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(found.replace(",", "")) for found in _NUMBER.findall(text))


def _equation(text: str) -> float:
    """1 for an equation that holds, 2 for one that does not, 0 for none, -1 for one that cannot be checked."""
    left, sign, right = text.rpartition("=")
    if not sign:
        return 0.0
    if not (_SUM.fullmatch(left) and _PURE.fullmatch(right)):
        return -1.0
    value = _arithmetic(left.strip())
    stated = _numbers(right)
    return -1.0 if value is None or not stated else (1.0 if math.isclose(value, stated[0], abs_tol=1e-6) else 2.0)


@functools.lru_cache(maxsize=1024)
def _arithmetic(expression: str) -> float | None:
    """The value of a sum of plain numbers; None for anything else."""
    try:
        return _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ZeroDivisionError, OverflowError, ValueError):
        return None


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value(left) + _value(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _value(left) - _value(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _value(left) * _value(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _value(left) / _value(right)
        case _:
            raise ValueError(f"{ast.dump(node)} is no sum of plain numbers")
