import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import GenerateRequest
from rheostat.policies.reply import Reply


def reply(n=1, max_tokens=100):
    return Reply(GenerateRequest(model="m", messages=(), max_tokens=max_tokens, n=n), "fake")


def say(to, *events, done=True):
    for event in events:
        to.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    if done:
        to.feed(b"data: [DONE]\n\n")
    return to


def word(text, index=0, count=None, finish=None, **delta):
    event = {"choices": [{"index": index, "delta": {"content": text} | delta, "finish_reason": finish}]}
    return event | ({} if count is None else {"usage": {"prompt_tokens": 5, "completion_tokens": count}})


def total(count, **details):
    return {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": count} | details}


def ok(of):
    return of.attempt("ok", latency_s=0.1)


def test_samples_are_put_together_by_their_index():
    said = say(reply(n=2), word("b", 1, 1), word("a", 0, 1), word("B", 1, 2, "stop"), word("A", 0, 2, "length"), total(4))
    assert [(c.index, c.text, c.completion_tokens, c.finish_reason) for c in said.completions] == [
        (0, "aA", 2, "length"),
        (1, "bB", 2, "stop"),
    ]
    assert (ok(said).ledger.completion, ok(said).ledger.prompt, ok(said).estimated, said.done) == (4, 5, False, True)


def test_cached_and_reasoning_tokens_are_booked():
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    ledger = ok(say(reply(), word("x", count=3, finish="stop"), total(3, **details))).ledger
    assert (ledger.cached_prompt, ledger.reasoning, ledger.completion) == (4, 2, 3)


def test_thinking_is_kept_apart_from_the_text():
    (completion,) = say(reply(), word(None, reasoning="hm "), word("7", reasoning_content="well", finish="stop")).completions
    assert (completion.text, completion.reasoning_text) == ("7", "hm well")


def test_reasoning_tokens_of_a_broken_stream_are_those_seen_so_far():
    event = word("x", finish="stop")
    event["usage"] = {"prompt_tokens": 1, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}
    assert ok(say(reply(), event)).ledger.reasoning == 6


def test_the_mean_log_probability_is_over_the_tokens():
    events = [word("a"), word("b", finish="stop")]
    for event, logprob in zip(events, (-0.5, -1.5), strict=True):
        event["choices"][0]["logprobs"] = {"content": [{"token": "t", "logprob": logprob}]}
    assert say(reply(), *events).completions[0].mean_logprob == pytest.approx(-1.0)


def test_tool_calls_are_put_together_from_their_pieces():
    pieces = [
        {"index": 0, "id": "c1", "function": {"name": "add", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"x":'}},
        {"index": 0, "function": {"arguments": " 1}"}},
        {"index": 1, "id": "c2", "function": {"name": "stop"}},
    ]
    events = [word(None, tool_calls=[piece]) for piece in pieces]
    (completion,) = say(reply(), *events, word("", finish="tool_calls")).completions
    first, second = completion.tool_calls
    assert first == {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}
    assert second["function"]["name"] == "stop"


def test_a_broken_call_is_billed_for_what_was_seen_and_only_whole_samples_count_as_used():
    said = say(reply(n=2), word("a", 0, 3, "stop"), word("b", 1, 7), done=False)
    failed = said.attempt("failed", latency_s=0.1, error="broke").ledger
    cancelled = said.attempt("cancelled", latency_s=0.1).ledger
    assert (failed.completion, failed.wasted) == (3, 7)
    assert (cancelled.completion, cancelled.wasted) == (0, 10)
    assert [c.index for c in said.completions] == [0]


def test_without_usage_chunks_are_counted_and_marked_as_an_estimate():
    attempt = ok(say(reply(), word("a"), word("b"), word("c", finish="stop")))
    assert (attempt.ledger.completion, attempt.estimated) == (3, True)


def test_a_call_that_said_nothing_is_an_estimate_unless_it_was_refused():
    assert reply().attempt("failed", latency_s=0.0).estimated
    assert not reply().attempt("failed", latency_s=0.0, refused=True).estimated


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12), st.integers(1, 5))
def test_absurd_usage_never_books_more_than_was_asked_for(count, prompt, n):
    said = say(reply(n=n, max_tokens=10), {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": count}})
    for status in ("ok", "failed", "cancelled"):
        ledger = said.attempt(status, latency_s=0.0).ledger
        assert 0 <= ledger.generated <= 10 * n
        assert 0 <= ledger.cached_prompt <= ledger.prompt
    if count > 10 * n:
        assert ok(said).estimated


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{not json", "no chat completion chunk"),
        (b'{"choices": "x"}', "no chat completion chunk"),
        (b'{"choices":[{"index":0,"delta":{"content":"\xff"}}]}', "no chat completion chunk"),
        (b'{"choices":[{"index":9}]}', "sent a sample 9 of 1"),
        (b'{"error": {"message": "died"}}', "failed in the stream: died"),
        (b'{"error": "died"}', "failed in the stream: died"),
    ],
)
def test_what_is_no_reply_is_an_upstream_error(data, says):
    with pytest.raises(UpstreamError, match=says) as caught:
        reply().feed(b"data: " + data + b"\n\n")
    assert caught.value.retryable


def test_an_error_event_is_a_failure_whatever_is_in_it():
    with pytest.raises(UpstreamError, match="failed in the stream"):
        reply().feed(b"event: error\ndata: {}\n\n")


def test_a_refusal_inside_the_stream_keeps_its_status_and_may_not_be_tried_again():
    with pytest.raises(UpstreamError, match="not configured") as caught:
        Reply(GenerateRequest(model="m", messages=(), max_tokens=9), "b").feed(
            b'data: {"error": {"message": "budget is not configured", "code": 400}}\n\n'
        )
    assert (caught.value.status, caught.value.retryable) == (400, False)


EVENTS = st.sampled_from(
    [
        *(
            json.dumps(event)
            for event in (word("a", count=1), word("b", 1), word("c", finish="stop"), word("d", 7), total(3), {"error": "x"})
        ),
        '{"id": "a", "choices": []},{"id": "b"}',
        '{"id": "a',
        'b"}',
        "no json",
        "[DONE]",
    ]
)


@given(st.lists(EVENTS, min_size=1, max_size=6))
def test_events_that_come_together_are_read_as_they_are_one_by_one(events):
    def read(pieces):
        said, error = reply(n=2), None
        try:
            for piece in pieces:
                said.feed(piece)
        except UpstreamError as caught:
            error = str(caught)
        return said.completions, ok(said), said.done, said.call_id, error

    pieces = [f"data: {event}\n\n".encode() for event in events]
    assert read([b"".join(pieces)]) == read(pieces)
