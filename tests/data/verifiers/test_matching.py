from __future__ import annotations

import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.verifiers import verifier


def score(name: str, answer: str | None, reference: str | None) -> float | None:
    return verifier(name).verify("?", answer, reference, "text")


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        (r"\frac{1}{2}", "0.5", 1.0),
        ("So it factors. The answer is $x^2+2x+1$.", "(x+1)^2", 1.0),
        ("First 3.\nThe answer is (x+1)^2.", "x^2+2x+1", 1.0),
        (r"hence \boxed{\{1,2\}}", r"\{2,1\}", 1.0),
        (r"$\sqrt{8}$", r"2\sqrt{2}", 1.0),
        ("4", "3", 0.0),
        ("", "3", 0.0),
        ("I cannot tell", "3", 0.0),
    ],
)
def test_expressions_are_compared_by_what_they_mean(answer: str, reference: str, expected: float) -> None:
    assert score("latex", answer, reference) == expected


@pytest.mark.parametrize(
    ("answer", "expected"), [("[1, 2]", 1.0), ("Here:\n```json\n[3]\n```\n", 1.0), ("[]", 0.0), ('["1"]', 0.0), ("[1", 0.0), ("", 0.0)]
)
def test_json_must_fit_its_schema(answer: str, expected: float) -> None:
    assert score("json_schema", answer, '{"type": "array", "minItems": 1, "items": {"type": "integer"}}') == expected


@pytest.mark.parametrize(("answer", "expected"), [("AB-12", 1.0), ("AB-12 or so", 0.0), ("xAB-12", 0.0), (" ", 0.0)])
def test_a_pattern_must_match_the_whole_answer(answer: str, expected: float) -> None:
    assert score("regex", answer, r"[A-Z]{2}-\d+") == expected


@pytest.mark.parametrize(
    ("reply", "reference", "expected"),
    [
        ("The answer is Paris.", "Paris|Lyon", 1.0),
        ("The answer is Paris. Not London.", "Paris|Lyon", 1.0),
        ("Paris is nice. The answer is London. Not Paris.", "Paris|Lyon", 0.0),
        ("The answer is Paris. Because it is the capital.", "paris", 1.0),
        ("The answer is St. Louis.", r"St\. Louis", 1.0),
        ("It is Paris? Word upon word, and no end of words in sight, and so on for a line and more.", "(?s).*Paris.*", 0.0),
    ],
)
def test_a_pattern_sees_the_answer_as_it_was_stated_and_as_it_is_normalised(reply: str, reference: str, expected: float) -> None:
    assert score("regex", reply, reference) == expected


def test_a_pattern_for_a_number_may_match_its_one_spelling() -> None:
    assert verifier("regex").verify("?", "The answer is $1,234.50 in all.", r"1234\.5", "number") == 1.0


def test_what_takes_for_ever_is_an_abstention() -> None:
    assert score("regex", "a" * 64 + "b", "(a+)+") is None
    assert score("regex", "aaa", "(a+)+") == 1.0


@pytest.mark.parametrize(
    ("name", "reference", "reason"),
    [
        ("regex", "(", "unterminated"),
        ("latex", "", "nothing in it"),
        ("json_schema", '{"type": "strange"}', "strange"),
        ("json_schema", "no json", "Expecting value"),
        ("json_schema", '{"$ref": "http://localhost/schema"}', "does not hold"),
    ],
)
def test_a_reference_that_cannot_be_used_is_refused(name: str, reference: str, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        score(name, "{}", reference)


@pytest.mark.parametrize("name", ["regex", "latex", "json_schema"])
def test_no_answer_is_wrong_and_no_reference_an_abstention(name: str) -> None:
    assert score(name, None, "x") == 0.0
    assert score(name, "x", None) is None
