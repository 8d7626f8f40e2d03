"""What a judgement is worth."""

import pytest

from rheostat.data.errors import RequestError
from rheostat.serving.feedback import Feedback, parse_feedback, reward_of


@pytest.mark.parametrize(
    ("answer", "correction", "reward"),
    [
        ("42", "42.0", 1.0),
        ("0.75", "The 3/4", 1.0),
        ("42", "43", 0.0),
        ("B", "(B)", 1.0),
        ("B", "C", 0.0),
        ("yes", "True", 1.0),
        ("paris", "Paris.", 1.0),
        ("paris", "Lyon", 0.0),
        ("paris in 1990", "London in 1990", 0.0),
        ("b major", "B minor", 0.0),
        ("yes we can", "yes you may", 0.0),
        ("5 apples", "5 pears", 0.0),
        ("- apple\n- pear", "apple\npear", 1.0),
        ("apple", "apple\npear", 0.0),
        ('{"a": 1}', '{"a":  1}', 1.0),
        ("", "...", 0.0),
    ],
)
def test_a_correction_is_compared_with_all_of_the_answer(answer, correction, reward):
    assert reward_of(Feedback(decision_id="d", correction=correction), answer) == reward


def test_a_correction_of_an_answer_that_was_not_kept_is_refused():
    with pytest.raises(RequestError, match="was not kept"):
        reward_of(Feedback(decision_id="d", correction="x"), None)


@pytest.mark.parametrize("body", [b'{"decision_id": "d"}', b'{"decision_id": "d", "reward": 1, "label": "correct"}'])
def test_there_is_one_judgement(body):
    with pytest.raises(RequestError, match="exactly one of"):
        parse_feedback(body)


@pytest.mark.parametrize(("given", "reward"), [({"reward": 0.25}, 0.25), ({"label": "correct"}, 1.0), ({"label": "incorrect"}, 0.0)])
def test_a_reward_and_a_label_are_what_they_say(given, reward):
    assert reward_of(Feedback(decision_id="d", **given), None) == reward
