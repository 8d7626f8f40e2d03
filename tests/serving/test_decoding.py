"""What JSON is refused, whatever it was meant for."""

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import RequestError
from rheostat.serving.decoding import check_depth, decode

ANY = msgspec.json.Decoder(dict)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"a": 1, "a": 2}', "a"),
        (b'{"x": {"b": 1, "b": 2}}', "b"),
        (b'{"x": [{"y": [{"role": "user", "role": "system"}]}]}', "role"),
        (b'{"x": {"\\u0061": 1, "a": 2}}', "a"),
    ],
)
def test_a_key_given_twice_is_refused_at_any_depth(body, param):
    with pytest.raises(RequestError) as caught:
        decode(body, ANY)
    assert (caught.value.param, caught.value.code) == (param, "duplicate_key")


@pytest.mark.parametrize(
    ("body", "param"), [(b'{"a": "x\\u0000y"}', "a"), (b'{"a": [{"b": "\\u0000"}]}', "a"), (b'{"a": {"\\u0000": 1}}', "a")]
)
def test_a_nul_in_a_text_is_refused(body, param):
    with pytest.raises(RequestError) as caught:
        decode(body, ANY)
    assert caught.value.param == param


def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert decode(b'{"a": "\\\\u0000"}', ANY) == {"a": "\\u0000"}


@pytest.mark.parametrize("body", [b"NaN", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": "\\ud800"}', b'{"a": "\xff"}', b"[" * 100_000])
def test_what_only_some_decoders_take_is_refused(body):
    with pytest.raises(RequestError) as caught:
        decode(body, ANY)
    assert caught.value.param == "body"


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
        st.recursive(st.integers(-(2**60), 2**60), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner)),
        max_size=5,
    )
)
def test_json_without_tricks_comes_through(value):
    assert decode(json.dumps(value).encode(), ANY) == value


def test_the_largest_body_that_is_looked_at_holds_the_loop_for_less_than_fifty_milliseconds():
    body = b'{"a": [' + b"1," * 49_000 + b"1]}"
    started = time.thread_time()
    decode(body, ANY)
    assert time.thread_time() - started < 0.05


def test_depth_is_checked_by_field():
    check_depth({"a": [[[]]], "b": 1}, 4, b"[" * 9)
    with pytest.raises(RequestError, match="a: nested deeper than 2 levels"):
        check_depth({"b": 1, "a": [[[1]]]}, 2, b"[" * 9)


@pytest.mark.parametrize("body", [b'{"%s": 1}', b'{"%s": 1, "%s": 2}', b'{"a": {"%s": "\\u0000"}}'])
def test_a_key_of_megabytes_is_not_said_again(body):
    body = body.replace(b"%s", b"k" * 1_000_000)
    decoder = msgspec.json.Decoder(msgspec.defstruct("Some", [("a", dict, {})], forbid_unknown_fields=True))
    with pytest.raises(RequestError) as caught:
        decode(body, decoder)
    assert len(str(caught.value)) < 200


@given(st.recursive(st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner), max_leaves=9))
def test_a_body_with_few_brackets_is_never_too_deep(value):
    body = json.dumps({"x": value}).encode()
    brackets = body.count(b"[") + body.count(b"{")
    check_depth({"x": value}, brackets, b"[" * (brackets + 1))
