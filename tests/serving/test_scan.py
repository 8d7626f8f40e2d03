"""Large bodies are bounded by what they hold, whatever slices they come in."""

import asyncio
import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import RequestError
from rheostat.serving.scan import MAX_VALUES, SLICE_BYTES, SMALL_BYTES, Scan, scan

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)


def depth(value):
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if children is None else 1 + max(map(depth, children), default=0)


@given(JSON, st.integers(1, 9))
def test_depth_is_counted_as_the_decoder_would_whatever_the_slices(value, step):
    body = json.dumps(value, ensure_ascii=False).encode()
    pieces = [body[at : at + step] for at in range(0, len(body), step)]

    def feed(max_depth):
        reader = Scan(max_depth=max_depth)
        for piece in pieces:
            reader.feed(piece)

    feed(depth(value))
    if depth(value):
        with pytest.raises(RequestError, match="nested deeper"):
            feed(depth(value) - 1)


@given(st.binary(max_size=300), st.integers(1, 7))
def test_no_bytes_raise_anything_but_a_request_error(data, step):
    reader = Scan(max_depth=3, max_values=20)
    with suppress(RequestError):
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])


ABUSE = {
    "a million keys": b"{" + b",".join(b'"k%d":1' % number for number in range(300_000)) + b"}",
    "a million numbers": b"[" + b"1," * 2_000_000 + b"1]",
    "a million lists": b"[" * 2_000_000,
    "a million objects": b"[" + b"{}," * 1_300_000 + b"{}]",
    "quotes in a text": b'{"a": "' + b'\\"' * 2_000_000 + b'"}',
    "backslashes": b'{"a": "' + b"\\\\" * 2_000_000 + b'"}',
    "one text": b'{"a": "' + b"x" * 4_000_000 + b'"}',
    "no text ends": b'"' + b"[" * 4_000_000,
}


@pytest.mark.parametrize("name", ABUSE)
def test_no_slice_of_any_body_holds_the_loop_for_long(name):
    body, slowest = ABUSE[name], 0.0
    reader = Scan(max_depth=64)
    for at in range(0, len(body), SLICE_BYTES):
        started = time.thread_time()
        try:
            reader.feed(body[at : at + SLICE_BYTES])
        except RequestError:
            break
        finally:
            slowest = max(slowest, time.thread_time() - started)
    assert slowest < 0.05


async def test_a_large_body_lets_others_run_while_it_is_looked_through():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    await scan(b'{"a": "' + b"x" * (20 * SLICE_BYTES) + b'"}', max_depth=64)
    task.cancel()
    assert turns >= 19


async def test_small_bodies_are_left_to_the_decoder():
    await scan(b"[" * SMALL_BYTES, max_depth=1)


async def test_too_many_values_are_refused_by_name():
    with pytest.raises(RequestError, match=str(MAX_VALUES)) as caught:
        await scan(b"[" + b"1," * (MAX_VALUES + 1), max_depth=64)
    assert caught.value.code == "too_complex"
