import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.policies.base import Completion
from rheostat.policies.evidence import read_answer
from rheostat.policies.structured import asks_for_json, canonical_calls, canonical_json

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()), lambda inner: st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)
TOOLS = {"tools": [{"type": "function", "function": {"name": "add"}}]}


def call(name="add", arguments='{"x": 1}'):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


@given(values)
def test_equal_data_has_one_spelling_however_it_is_written(value):
    assert canonical_json(json.dumps(value)) == canonical_json(json.dumps(value, indent=3, ensure_ascii=True))


@pytest.mark.parametrize("text", ["", "{", "seven", "[" * 100_000])
def test_what_is_no_json_is_no_answer(text):
    assert canonical_json(text) is None


@pytest.mark.parametrize("depth", [*range(900, 1000), 100_000])
def test_calls_that_are_nested_without_end_are_no_answer(depth):
    assert canonical_calls((call(arguments='{"a":' + "[" * depth + "]" * depth + "}"),), TOOLS) is None or depth < 1000


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, False),
        ({"response_format": {"type": "text"}}, False),
        ({"response_format": {"type": "json_object"}}, True),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, True),
        ({"structured_outputs": {"json": {}}}, True),
        ({"structured_outputs": {"regex": "a"}}, False),
    ],
)
def test_json_is_read_where_it_was_asked_for(asked, wanted):
    assert asks_for_json(asked) == wanted
    found = read_answer(Completion(index=0, text='{"b": 2, "a": 1}', completion_tokens=1), "number", asked)
    assert (found == '{"a": 1, "b": 2}') == wanted


def test_only_calls_of_offered_tools_with_readable_arguments_count():
    assert canonical_calls((call(),), TOOLS) == '[["add", {"x": 1}]]'
    assert canonical_calls((call(arguments={"x": 1}),), TOOLS) == '[["add", {"x": 1}]]'
    assert canonical_calls((call("drop"),), TOOLS) is None
    assert canonical_calls((call(arguments="[1]"),), TOOLS) is None
    assert canonical_calls((call(arguments="{x"),), {}) is None


HALF_A_PAIR = '{"a": "\\ud800"}'


def test_what_cannot_be_encoded_is_no_answer():
    assert canonical_json(HALF_A_PAIR) is None
    assert canonical_json('{"\\udfff": 1}') is None
    assert canonical_calls((call(arguments=HALF_A_PAIR),), TOOLS) is None
    assert canonical_json('{"a": "\\ud83d\\ude00"}') == '{"a": "\U0001f600"}'


@pytest.mark.parametrize("kind", ["number", "choice", "yesno", "text"])
def test_no_text_is_read_as_an_answer_that_cannot_be_encoded(kind):
    found = read_answer(Completion(index=0, text="The answer is \ud800.", completion_tokens=1), kind)
    assert found is None


def test_calls_of_equal_arguments_vote_together():
    calls = [call(arguments=f'{{"x": {x}}}') for x in (1, 2, 1)]
    read = [read_answer(Completion(index=0, text="", completion_tokens=1, tool_calls=(each,)), "text", TOOLS) for each in calls]
    assert read[0] == read[2] != read[1]
