"""What a job knows of its one call."""

import pytest

from rheostat.data.ledger import Price
from rheostat.data.schema import Decision, Query, Sampling
from rheostat.policies.base import Completion
from rheostat.serving.job import Job
from rheostat.serving.single_call import note_samples


def job(**asked):
    decision = Decision(decision_id="d_1", query_id="q_1", created_s=0.0, action="m/passthrough@64", propensity=1.0)
    messages = ({"role": "user", "content": "How many are 3+4?"},)
    return Job(decision, Query(query_id="q_1", messages=messages, kind="number", sampling=Sampling(extra=asked)), {})


def completions(*texts):
    return [Completion(index=at, text=text, completion_tokens=5) for at, text in enumerate(texts)]


@pytest.mark.parametrize("asked", [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"json": {}}}])
def test_json_that_was_asked_for_is_the_answer_as_a_whole_and_prose_is_none(asked):
    noted = job(**asked)
    note_samples(noted, completions('{"a": 3, "b": 4}', '{"b":4,"a":3}', "It is 4."))
    assert noted.answer == '{"a": 3, "b": 4}'
    assert noted.agreement == pytest.approx(2 / 3)


def test_a_call_of_a_tool_that_was_not_offered_is_no_answer():
    noted = job(tools=[{"type": "function", "function": {"name": "add"}}])
    call = {"type": "function", "function": {"name": "drop", "arguments": "{}"}}
    note_samples(noted, [Completion(index=0, text="", completion_tokens=5, tool_calls=(call,))])
    assert noted.answer is None


def test_text_is_read_by_the_kind_of_the_question():
    noted = job()
    note_samples(noted, completions("3+4=7. The answer is 7."))
    assert noted.answer == "7"


@pytest.mark.parametrize(("said", "reward"), [("Answer: apple\npear", 1.0), ("Answer: apple\nIt is red.", 0.0)])
def test_all_lines_of_a_reference_count_where_a_call_is_scored(said, reward):
    query = Query.of_text("Which fruits?", kind="text", reference="apple\npear")
    noted = Job(job().decision, query, {"m": Price()})
    note_samples(noted, completions(said))
    noted.status = "ok"
    assert noted.outcome().reward == reward
