"""What an answer says for itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.router.answer_features import _PURE, MISSING, AnswerFeatures, Question, answer_features
from tests.growth import growth

GAME = Question.of("Use the four numbers and + - * / to obtain 24: 5 8 8 8")


@given(st.text(max_size=60), st.text(max_size=60) | st.none())
@settings(max_examples=200, deadline=None)
def test_features_of_any_texts_are_finite(answer, text):
    found = answer_features(answer, Question.of(text))
    assert len(found) == len(AnswerFeatures._fields)
    assert all(math.isfinite(value) for value in found)


@given(st.text("0123456789+-*/(). =", max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_expression_breaks_the_check_of_equations(answer):
    assert answer_features(answer, GAME).equation in (-1.0, 0.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("answer", "equation"),
    [
        ("(5 * 8) - (8 + 8) = 24", 1.0),
        ("(5 + 8) * 8 = 24", 2.0),
        ("1 / 0 = 24", -1.0),
        ("9 ** 9 ** 9 = 1", -1.0),
        ("x = 24", -1.0),
        ("-(2 - 26) = 24", 1.0),
        ("24", 0.0),
    ],
)
def test_an_equation_holds_or_does_not_or_cannot_be_checked(answer, equation):
    assert answer_features(answer, GAME).equation == equation


def test_numbers_are_held_against_the_questions_own():
    found = answer_features("(5 * 8) - 8 * 2 = 24", GAME)
    assert (found.n_numbers, found.n_shared, found.n_new, found.n_left_over) == (5, 4, 1, 1)
    assert answer_features("8", GAME).repeats_number == 1.0
    assert answer_features("9", GAME).repeats_number == 0.0


def test_sizes_are_ratios_to_the_questions_numbers():
    question = Question.of("Add 3 and 60.")
    assert answer_features("63", question).over_sum == pytest.approx(0.0)
    assert answer_features("60", question).over_largest == pytest.approx(0.0)
    assert answer_features("3", question).over_smallest == pytest.approx(0.0)


def test_without_numbers_nothing_is_compared():
    found = answer_features("no", Question.of("Is it late?"))
    assert {found.size, found.last_digit, found.over_largest, found.repeats_number} == {MISSING}
    assert answer_features("7", Question.of(None)).over_sum == MISSING


def test_what_the_question_says_is_quoted():
    question = Question.of("Which is warmer, the desert or the pole?")
    assert answer_features("The Desert", question).quoted == 1.0
    assert answer_features("a glacier", question).quoted == 0.0
    assert answer_features("the pole", question).words_shared == 1.0


@pytest.mark.parametrize("piece", ["1", "1,", " ", "1.", "%"])
def test_whether_an_answer_is_only_a_number_is_told_in_linear_time(piece):
    assert growth(lambda n: _PURE.fullmatch(piece * n + "x"), 5_000) < 9
