"""Responses asked as chats, and chats answered as responses."""

import json

import msgspec
import pytest

from rheostat.data.errors import RequestError
from rheostat.data.ledger import Ledger
from rheostat.serving.answer import usage
from rheostat.serving.response_stream import ResponseStream
from rheostat.serving.responses import parse_response, response
from rheostat.serving.shapes import ChatCompletion, Choice, Message, Response
from tests.serving.told import TOLD

CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}


def body(**fields):
    return json.dumps({"model": "auto", "input": "What is 2 plus 3?", **fields}).encode()


def messages(**fields):
    return list(parse_response(body(**fields)).chat.query.messages)


def extra(**fields):
    return parse_response(body(**fields)).chat.query.sampling.extra


def test_a_text_with_instructions_is_a_system_and_a_user_message():
    assert messages(instructions="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2 plus 3?"},
    ]


def test_items_are_messages_and_the_calls_of_one_turn_are_one():
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Add."}]},
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Adding.", "annotations": []}]},
        CALL,
        {**CALL, "call_id": "c2"},
        {"type": "function_call_output", "call_id": "c1", "output": "5"},
    ]
    user, assistant, tool = messages(input=items)
    assert user == {"role": "user", "content": [{"type": "text", "text": "Add."}]}
    assert [call["id"] for call in assistant["tool_calls"]] == ["c1", "c2"]
    assert tool == {"role": "tool", "tool_call_id": "c1", "content": "5"}


def test_tools_schemas_and_effort_are_what_a_chat_calls_them():
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    given = extra(
        tools=[TOOL], tool_choice={"type": "function", "name": "add"}, text={"format": schema}, reasoning={"effort": "low"},
        parallel_tool_calls=False,
    )  # fmt: skip
    assert given["tools"] == [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "strict": True}}]
    assert given["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert given["response_format"]["json_schema"] == {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert (given["reasoning_effort"], given["parallel_tool_calls"]) == ("low", False)
    assert extra(text={"format": {"type": "text"}}) == {}
    assert extra(text={"format": {"type": "json_object"}}) == {"response_format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "king", "content": "x"}]}, "input"),
        ({"input": [CALL]}, "input"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": json.loads("[" * 200 + "]" * 200)}}}, "response_format"),
        ({"max_output_tokens": 10**9}, "max_output_tokens"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_cannot_be_served_is_named(fields, param):
    with pytest.raises(RequestError) as caught:
        parse_response(body(**fields))
    assert caught.value.param == param


def completion(finish_reason="stop", **message):
    choice = Choice(index=0, message=Message(**message), finish_reason=finish_reason)
    spent = usage(Ledger(prompt=3, cached_prompt=1, completion=2))
    return ChatCompletion(id="chatcmpl-d-1", created=7, model="pocket", choices=[choice], usage=spent, rheostat=TOLD)


def test_an_answer_is_output_and_usage_and_what_was_asked():
    asked = parse_response(body(instructions="Be brief.", temperature=0.5, metadata={"a": "b"}))
    answer = response(completion(content="5"), asked)
    assert (answer.id, answer.status, answer.output[0].content[0].text) == ("resp_d-1", "completed", "5")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.input_tokens_details.cached_tokens) == (3, 2, 1)
    assert (answer.instructions, answer.temperature, answer.metadata) == ("Be brief.", 0.5, {"a": "b"})


def test_calls_are_items_and_a_cut_answer_is_incomplete():
    calls = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    answer = response(completion("tool_calls", tool_calls=calls), parse_response(body(tools=[TOOL])))
    assert [(item.call_id, item.name) for item in answer.output] == [("c1", "add")]
    cut = response(completion("length", content="5"), parse_response(body()))
    assert (cut.status, cut.incomplete_details) == ("incomplete", {"reason": "max_output_tokens"})


def chunk(delta=None, finish_reason=None, **fields):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return {"id": "chatcmpl-1", "model": "pocket", "choices": choices, **fields}


LAST = {"usage": msgspec.to_builtins(usage(Ledger(prompt=3, completion=2))), "rheostat": msgspec.to_builtins(TOLD)}


def events(*chunks):
    stream = ResponseStream(parse_response(body(stream=True, tools=[TOOL])), "r-1")
    said = b"".join(map(stream.chunk, chunks)) + stream.end()
    return [json.loads(part.split(b"data: ")[1]) for part in said.strip().split(b"\n\n")]


def test_a_stream_opens_fills_and_closes_a_message():
    told = events(chunk({"role": "assistant", "content": ""}), chunk({"content": "It is"}), chunk({"content": " 5"}, "stop"), chunk(**LAST))
    assert [event["type"].removeprefix("response.") for event in told] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event["sequence_number"] for event in told] == list(range(10))
    whole = msgspec.convert(told[-1]["response"], Response)
    assert whole.output[0].content[0].text == "It is 5"
    assert whole.usage.total_tokens == 5


def test_a_stream_of_calls_gives_each_its_arguments():
    def piece(index, **fields):
        return {"tool_calls": [{"index": index, **fields}]}

    told = events(
        chunk({"content": "Adding."}),
        chunk(piece(0, id="c1", function={"name": "add", "arguments": ""})),
        chunk(piece(0, function={"arguments": '{"a":'})),
        chunk(piece(0, function={"arguments": "1}"})),
        chunk(piece(1, id="c2", function={"name": "sub", "arguments": "{}"}), "tool_calls"),
        chunk(**LAST),
    )
    whole = msgspec.convert(told[-1]["response"], Response)
    assert [item.arguments for item in whole.output[1:]] == ['{"a":1}', "{}"]
    assert [event["output_index"] for event in told if event["type"] == "response.output_item.done"] == [0, 1, 2]


def test_an_empty_answer_is_a_message_without_text_and_a_cut_one_is_incomplete():
    empty = events(chunk({}, "stop"), chunk(**LAST))
    assert empty[-1]["response"]["output"][0]["content"][0]["text"] == ""
    cut = events(chunk({"content": "It"}, "length"), chunk(**LAST))
    assert (cut[-1]["type"], cut[-1]["response"]["status"]) == ("response.incomplete", "incomplete")
