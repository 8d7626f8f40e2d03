import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from rheostat.serving.stream import MARK, Passage, without_usage


@given(st.binary(max_size=60), st.lists(st.integers(1, 70), max_size=6))
def test_a_passage_gives_every_byte_before_the_mark_however_it_is_cut(body, cuts):
    body = body.replace(b"[DONE]", b"")
    whole = body + MARK + b"\n\n"
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    passage = Passage()
    out = b"".join(passage.feed(whole[a:b]) for a, b in itertools.pairwise(places))
    assert out == body + b"\n"
    assert passage.done
    assert passage.feed(b"more") == b""


def test_an_answer_that_says_the_mark_is_not_the_end():
    passage = Passage()
    said = b'data: {"content": "data: [DONE]"}\n\n'
    assert passage.feed(said) == said
    assert not passage.done


def test_an_event_goes_on_as_soon_as_it_is_whole_and_a_broken_line_never():
    passage = Passage()
    assert [passage.feed(part) for part in (b"data: a\n\n", b"data: b", b"\n\n", b"data: c\ndata: bro")] == [
        b"data: a\n\n", b"", b"data: b\n\n", b"data: c\n",
    ]  # fmt: skip
    assert not passage.done


def test_the_mark_alone_is_the_end():
    passage = Passage()
    assert (passage.feed(b"data: [DO"), passage.feed(b"NE]\n\n"), passage.done) == (b"", b"", True)


@given(
    st.text(),
    st.sampled_from([None, {"total_tokens": 3}, {"total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}]),
    st.sampled_from([(",", ":"), (", ", ": ")]),
)
def test_usage_is_taken_out_of_chunks_and_out_of_no_text(text, usage, separators):
    chunk = {"id": "c", "choices": [{"delta": {"content": text + ',"usage":{}'}}]}
    line = b"data: " + json.dumps({**chunk, "usage": usage, "last": 1}, separators=separators).encode() + b"\n\n"
    (shown,) = [json.loads(each.removeprefix(b"data: ")) for each in without_usage(line).splitlines() if each]
    assert shown == {**chunk, "last": 1}


def test_the_chunk_that_only_has_usage_is_left_out():
    total = b'data: {"id":"c","choices":[],"usage":{"total_tokens":3}}\n\n'
    said = b'data: {"id":"c","choices":[{"delta":{"content":"a"}}]}\n\n'
    assert without_usage(said + total) == said
    assert without_usage(said) == said
