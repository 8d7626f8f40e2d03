import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.answers import infer_kind
from rheostat.data.errors import RequestError
from rheostat.serving.feedback import parse_feedback
from rheostat.serving.wire import Limits, parse_chat
from tests.serving import garbage
from tests.serving.garbage import body


@pytest.mark.parametrize(("raw", "param"), garbage.ALL)
def test_garbage_is_refused_and_the_field_named(raw, param):
    started = time.perf_counter()
    with pytest.raises(RequestError) as caught:
        parse_chat(raw)
    assert caught.value.status == 400
    assert caught.value.param
    assert param is None or caught.value.param == param
    assert time.perf_counter() - started < 5


def test_a_plain_request_is_a_query_with_its_kind():
    chat = parse_chat(body(max_tokens=9, stop="x", temperature=0.5, seed=7, logit_bias={"1": 2}, user="me"))
    assert chat.query.text == "What is 2 plus 3?"
    assert chat.query.kind == infer_kind(chat.query.text)
    assert (chat.query.sampling.max_tokens, chat.query.sampling.stop, chat.query.sampling.seed) == (9, ("x",), 7)
    assert chat.query.sampling.extra == {"logit_bias": {"1": 2}}
    assert not chat.stream


def test_null_is_the_same_as_not_given():
    given_null = parse_chat(body(temperature=None, tools=None, stop=None, n=None, rheostat=None, response_format=None))
    assert given_null.query.sampling == parse_chat(body()).query.sampling


def test_options_come_from_the_body_and_the_headers_and_the_body_wins():
    headers = [(b"X-Rheostat-Target-Accuracy", b"0.5"), (b"x-rheostat-progress", b"true"), (b"x-rheostat-deadline-ms", b"1500")]
    headers.append((b"x-rheostat-confidence", b"0.9"))
    chat = parse_chat(body(rheostat={"target_accuracy": 0.9}), headers)
    assert chat.query.constraints.target_accuracy == 0.9
    assert chat.query.constraints.deadline_s == 1.5
    assert chat.query.constraints.confidence == 0.9
    assert chat.progress


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-rheostat-target-accuracy", b"nan"),
        (b"x-rheostat-target-accuracy", b"7"),
        (b"x-rheostat-confidence", b"1"),
        (b"x-rheostat-max-cost-usd", b"inf"),
        (b"x-rheostat-max-tokens-total", b"many"),
        (b"x-rheostat-nonsense", b"1"),
        (b"x-rheostat-action", b"\xff"),
    ],
)
def test_a_wrong_option_header_is_named(name, value):
    with pytest.raises(RequestError) as caught:
        parse_chat(body(), [(name, value)])
    assert caught.value.param in (name.decode(), "rheostat.action")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (b"x-rheostat-deadline-ms", b"soon", "x-rheostat-deadline-ms: 'soon' does not fit: it must be a number above 0"),
        (b"x-rheostat-deadlin-ms", b"5", "x-rheostat-deadlin-ms: unknown header: did you mean 'x-rheostat-deadline-ms'\\? known are"),
        (b"x-rheostat-max-cost-usd", b"inf", "x-rheostat-max-cost-usd: inf is no number"),
    ],
)
def test_a_wrong_header_is_told_by_its_own_name_with_what_may_be(name, value, message):
    with pytest.raises(RequestError, match=f"^{message}"):
        parse_chat(body(), [(name, value)])


def test_internal_headers_are_not_a_clients_to_set():
    assert parse_chat(body(), [(b"x-rheostat-internal-tenant", b"root")]).query.constraints == parse_chat(body()).query.constraints


def test_a_header_given_twice_is_refused():
    with pytest.raises(RequestError, match="twice"):
        parse_chat(body(), [(b"x-rheostat-progress", b"true")] * 2)


def test_tokens_times_samples_is_bounded():
    with pytest.raises(RequestError, match="n=128"):
        parse_chat(body(n=128, max_tokens=100), limits=Limits(max_tokens=4096))


def test_a_conversation_with_tools_and_parts_passes():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "2 plus 3?"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "5", "tool_call_id": "1"},
    ]
    assert parse_chat(body(messages=messages)).query.text == "What is\n2 plus 3?"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_request_error(raw):
    with pytest.raises(RequestError):
        parse_chat(raw)


@given(
    st.dictionaries(
        st.sampled_from(["model", "messages", "n", "stop", "rheostat", "tools", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_any_json_object_is_served_or_refused_by_name(fields):
    refused = None
    try:
        parse_chat(json.dumps({"model": "auto", "messages": garbage.MESSAGES, **fields}).encode())
    except RequestError as error:
        refused = error
    assert refused is None or refused.param


def test_feedback_takes_exactly_one_judgement():
    assert parse_feedback(b'{"decision_id": "d-1", "reward": 1}').reward == 1
    for raw in (
        b'{"decision_id": "d-1"}',
        b'{"decision_id": "d-1", "reward": 1, "label": "correct"}',
        b'{"reward": 1}',
        b'{"decision_id": "d", "reward": 2}',
    ):
        with pytest.raises(RequestError) as caught:
            parse_feedback(raw)
        assert caught.value.param
