from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action, Decision, Query, message_text, new_id

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
SHAPES = st.dictionaries(NAMES, st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=3)
ACTIONS = st.builds(
    lambda model, strategy, cap, shape: Action(model, strategy, cap, tuple(sorted(shape.items()))),
    st.from_regex(r"[A-Za-z0-9._/-]{1,20}", fullmatch=True),
    NAMES,
    st.integers(1, 10**9 - 1),
    SHAPES,
)


@given(ACTIONS)
def test_an_action_is_read_back_from_its_spelling(action: Action) -> None:
    assert Action.parse(str(action)) == action


def test_the_order_of_arguments_and_spaces_do_not_matter() -> None:
    action = Action.parse(" smol/best_of_n( n = 8, by=logprob )@2048 ")
    assert action == Action.parse("smol/best_of_n(by=logprob,n=8)@2048")
    assert action.arguments == {"n": 8, "by": "logprob"}


def test_an_argument_may_hold_a_call_of_its_own() -> None:
    assert Action.parse("a/cascade(first=direct(k=1,m=2),t=0.5)@9").arguments == {"first": "direct(k=1,m=2)", "t": 0.5}


@pytest.mark.parametrize(
    "spelling", ["", "smol", "smol/cot", "smol/cot@0", "smol/cot@-1", "smol/Cot@8", "smol/cot(k)@8", "smol/cot(k=)@8", "/cot@8"]
)
def test_what_is_no_action_is_refused_with_an_example(spelling: str) -> None:
    with pytest.raises(ActionError, match="write"):
        Action.parse(spelling)


def test_the_text_of_a_query_is_its_last_user_message() -> None:
    turns = ({"role": "user", "content": "first"}, {"role": "user", "content": "second"}, {"role": "assistant", "content": "reply"})
    assert Query(query_id="q", messages=turns).text == "second"
    assert Query(query_id="q", messages=turns[2:]).text == "reply"
    assert Query(query_id="q", messages=()).text == ""
    assert Query.of_text("hello").text == "hello"


@pytest.mark.parametrize(
    ("content", "text"),
    [("plain", "plain"), (None, ""), ([{"type": "text", "text": "a"}, {"type": "image_url"}, "odd", {"text": "b"}], "a\nb")],
)
def test_the_text_of_a_message_is_its_text_parts(content: object, text: str) -> None:
    assert message_text({"role": "user", "content": content}) == text


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_id("d") for _ in range(1_000)]
    assert len(set(ids)) == len(ids)
    assert [name[:13] for name in ids] == sorted(name[:13] for name in ids)


def test_records_are_frozen_and_survive_both_encodings() -> None:
    decision = Decision(decision_id="d", query_id="q", created_s=1.0, action="a/b@1", propensity=1.0, embedding=b"\x00\xff")
    with pytest.raises(AttributeError):
        decision.tier = "deep"  # type: ignore[misc]
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(decision), type=Decision) == decision
