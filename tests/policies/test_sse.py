import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import UpstreamError
from rheostat.policies.sse import Event, SseParser

texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1, max_size=20)


def parse(data, cuts=()):
    parser = SseParser("fake")
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [event for start, end in itertools.pairwise(edges) for event in parser.feed(data[start:end])]


@given(st.lists(texts), st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 10_000)))
def test_events_are_the_same_however_the_bytes_are_cut(payloads, newline, cuts):
    data = "".join(f"data: {payload}{newline}{newline}" for payload in payloads).encode()
    assert parse(data, cuts) == [Event(payload.encode()) for payload in payloads]


def test_one_byte_at_a_time_splits_characters_and_lines_alike():
    data = 'data: {"a":"é✓😀"}\r\n\r\n'.encode()
    assert parse(data, range(len(data))) == [Event('{"a":"é✓😀"}'.encode())]


def test_comments_ids_and_empty_events_are_skipped():
    assert parse(b": keep alive\n\nid: 3\nretry: 10\n\ndata: x\n\n") == [Event(b"x")]


def test_several_data_lines_are_one_text_and_a_missing_space_is_fine():
    assert parse(b"data: a\ndata:b\ndata\n\n") == [Event(b"a\nb\n")]


def test_a_name_belongs_to_its_event_only():
    assert parse(b"event: error\ndata: x\n\ndata: y\n\n") == [Event(b"x", "error"), Event(b"y")]


def test_an_event_that_is_not_ended_is_not_given():
    assert parse(b"data: x\n") == []


def test_a_line_over_the_limit_is_refused_before_it_is_complete():
    parser = SseParser("fake", max_line_bytes=100)
    parser.feed(b"data: " + b"x" * 90)
    with pytest.raises(UpstreamError, match="fake sent a line of more than 100 bytes"):
        parser.feed(b"x" * 20)


def test_many_data_lines_of_one_event_are_held_to_the_limit_too():
    parser = SseParser("fake", max_line_bytes=100)
    with pytest.raises(UpstreamError):
        parser.feed(b"data: 0123456789\n" * 11)
