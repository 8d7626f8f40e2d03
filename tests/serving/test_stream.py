import itertools

from hypothesis import given
from hypothesis import strategies as st

from rheostat.serving.stream import MARK, Passage


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
    assert passage.feed(b'data: {"content": "data: [DONE]"}\n\n') == b'data: {"content": "data: [DONE]"}\n'
    assert not passage.done
