"""Prompts asked as chats, and chats answered as texts."""

import json

import pytest

from rheostat.data.errors import RequestError
from rheostat.data.ledger import Ledger
from rheostat.policies.chunks import TokenLogprob
from rheostat.serving.answer import usage
from rheostat.serving.completions import TextStream, parse_completion, text_completion
from rheostat.serving.shapes import ChatCompletion, Choice, ChoiceLogprobs, Message
from tests.serving.told import TOLD


def body(**fields):
    return json.dumps({"model": "auto", "prompt": "What is 2 plus 3?", **fields}).encode()


def test_a_prompt_is_one_message_of_the_user():
    chat = parse_completion(body(max_tokens=9, n=2, seed=1, stop=["x"], stream=True))
    assert chat.query.messages == ({"role": "user", "content": "What is 2 plus 3?"},)
    assert (chat.query.sampling.max_tokens, chat.n, chat.query.sampling.seed, chat.stream) == (9, 2, 1, True)
    assert parse_completion(body(prompt=["What is 2 plus 3?"])).query.messages == chat.query.messages


def test_logprobs_are_asked_of_the_engine_as_a_chat_asks_for_them():
    assert parse_completion(body(logprobs=3)).query.sampling.extra == {"logprobs": True, "top_logprobs": 3}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": [1, 2]}, "prompt[0]"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"echo": True}, "echo"),
        ({"best_of": 5}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 10**6}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"prompt_embeds": "x"}, "prompt_embeds"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"response_format": json.loads("[" * 100 + "]" * 100)}, "response_format"),
    ],
)
def test_what_cannot_be_served_is_named(fields, param):
    with pytest.raises(RequestError) as caught:
        parse_completion(body(**fields))
    assert caught.value.param == param


def test_an_answer_has_the_text_and_the_logprobs_of_every_choice():
    tokens = [TokenLogprob(token=text, logprob=-1.0, top_logprobs=[{"token": "y", "logprob": -2.0}]) for text in ("ab", "c")]
    choice = Choice(index=0, message=Message(content="abc"), logprobs=ChoiceLogprobs(content=tokens), finish_reason="length")
    chat = ChatCompletion(id="chatcmpl-d-1", created=7, model="pocket", choices=[choice], usage=usage(Ledger(completion=2)), rheostat=TOLD)
    text = text_completion(chat)
    assert (text.id, text.choices[0].text, text.choices[0].finish_reason) == ("cmpl-d-1", "abc", "length")
    logprobs = text.choices[0].logprobs
    assert (logprobs.tokens, logprobs.text_offset, logprobs.top_logprobs) == (["ab", "c"], [0, 2], [{"y": -2.0}] * 2)


def test_chunks_without_text_are_left_out_and_usage_comes_once():
    stream = TextStream()
    role = {"id": "chatcmpl-1", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    text = {**role, "choices": [{"index": 0, "delta": {"content": "5"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
    counted = {**role, "choices": [], "usage": {"completion_tokens": 1}}
    assert stream.chunk(role) == stream.chunk(counted) == b""
    said = json.loads(stream.chunk(text).removeprefix(b"data: "))
    assert said["choices"] == [{"index": 0, "text": "5", "logprobs": None, "finish_reason": "stop"}]
    assert "usage" not in said
    last = json.loads(stream.chunk({**counted, "rheostat": {"decision_id": "d-1"}}).removeprefix(b"data: "))
    assert (last["usage"], last["rheostat"]["decision_id"]) == ({"completion_tokens": 1}, "d-1")
    assert stream.end() == b"data: [DONE]\n\n"
