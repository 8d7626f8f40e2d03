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
    "The steps are right but the final result is wrong.",
    "Step 1 is correct. Step 2 is wrong.",
    "There are no arithmetic errors, but the conclusion is wrong.",
    "Mostly correct.",
    "That is hardly right.",
    "Right, so first 2+3=6. That is incorrect.",
]
APPROVALS = [
    "12 would be wrong, so the attempt's 14 is correct.",
    "It would be wrong to say 13. The attempt is correct.",
    "A careless reader might be wrong here; this is correct.",
    "Correct.",
    "This is the correct answer.",
    "I found no errors.",
    "There aren't any mistakes.",
    "There is nothing wrong with it.",
    "I did not find errors so it is correct.",
    "No, it is correct.",
    "There is no doubt it is right.",
    "I do not see a flaw and it is correct.",
    "The attempt is free of errors.",
    "It is error-free.",
    "Not only correct but short.",
    "Is anything wrong? No, it is correct.",
    "Correct! It avoids the common mistake of adding twice.",
    "To check for errors, I add again: 3+4=7. Correct.",
    "Errors: none. Correct.",
]


@pytest.mark.parametrize("said", REFUSALS)
def test_a_negation_a_few_words_before_turns_praise_round(said):
    assert approves(said) is False


@pytest.mark.parametrize("said", APPROVALS)
def test_praise_and_denied_faults_are_approvals(said):
    assert approves(said) is True


SILENT = [
    "12 would be wrong.",
    "The attempt would be correct had it added 3.",
    "That would not have been correct.",
    "",
    "Let me see.",
    "Is the attempt correct? No.",
    "Right, let me see.",
    "The correct answer is 12; the attempt says 11.",
    "The right final value would be 3.",
]


@pytest.mark.parametrize("said", SILENT)
def test_what_says_nothing_of_the_attempt_is_no_verdict(said):
    assert approves(said) is None


@pytest.mark.parametrize(
    "piece", ["right ? ", "almost ", "error-", "not ", "n't", " ", "not a ", "right ", "no\t", "not\n\n", "for errors", "errors: none "]
)
def test_a_critique_that_repeats_itself_is_read_in_linear_time(piece):
    assert growth(lambda n: approves("not" + piece * n + "x"), 2_000) < 9
