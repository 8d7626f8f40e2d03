import pytest

from rheostat.policies.critique import approves
from tests.growth import growth

REFUSALS = [
    "The answer isn't correct.",
    "This is not the correct answer.",
    "That is not quite right.",
    "No, that can't be right.",
    "I don't think the answer is correct.",
    "Not **correct**: 3+4=7.",
    "There are errors in step 2.",
    "The calculation has several mistakes.",
    "Wrong.",
    "It is not 11 so the attempt is wrong.",
    "3+4 is not 8 - wrong.",
    "3+4 is not 8 (wrong).",
    "3+4 is not 8 — an error.",
]
APPROVALS = [
    "Correct.",
    "This is the correct answer.",
    "I found no errors.",
    "There aren't any mistakes.",
    "There is nothing wrong with it.",
    "I did not find errors so it is correct.",
    "No, it is correct.",
    "There is no doubt it is right.",
    "I do not see a flaw and it is correct.",
]


@pytest.mark.parametrize("said", REFUSALS)
def test_a_negation_a_few_words_before_turns_praise_round(said):
    assert approves(said) is False


@pytest.mark.parametrize("said", APPROVALS)
def test_praise_and_denied_faults_are_approvals(said):
    assert approves(said) is True


@pytest.mark.parametrize("said", ["", "Let me see.", "The correct answer is 12; the attempt says 11.", "The right final value would be 3."])
def test_what_says_nothing_of_the_attempt_is_no_verdict(said):
    assert approves(said) is None


@pytest.mark.parametrize("piece", ["not ", "n't", " ", "not a ", "right ", "no\t", "not\n\n"])
def test_a_critique_that_repeats_itself_is_read_in_linear_time(piece):
    assert growth(lambda n: approves("not" + piece * n + "x"), 2_000) < 9
