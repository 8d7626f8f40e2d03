"""`/v1/responses`: OpenAI's newer API, asked as a chat and answered by the executor. Nothing is kept between requests.

Shapes: OpenAI's API reference for responses. Items that only OpenAI's own service can act on are refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from rheostat.data.errors import RequestError
from rheostat.serving.decoding import check_depth, decode, shown
from rheostat.serving.messages import check_messages
from rheostat.serving.options import Headers, Options, Probability
from rheostat.serving.shapes import (
    ChatCompletion,
    Choice,
    FunctionCall,
    OutputItem,
    OutputMessage,
    OutputText,
    Response,
    ResponseUsage,
    Usage,
)
from rheostat.serving.wire import LIMITS, Chat, Effort, Generating, Limits, Metadata, StreamOptions, Tokens, Tools, chat_of

TEXT_PARTS = ("input_text", "output_text", "text")
Item = dict[str, Any]
Fields = dict[str, Any]


class TextConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`text`: what form the answer has."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class Reasoning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reasoning`: how much the engine is to think by itself; summaries are not made."""

    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponseBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of `/v1/responses` that are served."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    input: str | Annotated[list[Item], msgspec.Meta(min_length=1, max_length=2048)]
    instructions: str | None = None
    rheostat: Options | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    max_output_tokens: Tokens | None = None
    tools: Tools | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    metadata: Metadata | None = None
    # Accepted and without effect here: nothing is stored, so only what asks for nothing stored to be read is taken.
    previous_response_id: None = None
    background: Literal[False] | None = None
    include: Annotated[list[str], msgspec.Meta(max_length=0)] | None = None
    store: bool | None = None
    truncation: Literal["disabled"] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    user: str | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request: as a chat, and as what its answer repeats of it."""

    chat: Chat
    body: ResponseBody

    @property
    def repeated(self) -> Fields:
        """The fields of the answer that are the request's own."""
        body = self.body
        given = {
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata,
            "parallel_tool_calls": body.parallel_tool_calls,
            "temperature": body.temperature,
            "text": None if body.text is None or body.text.format is None else {"format": body.text.format},
            "tool_choice": body.tool_choice,
            "tools": body.tools,
            "top_p": body.top_p,
        }
        return {name: value for name, value in given.items() if value is not None}


_RESPONSE = msgspec.json.Decoder(ResponseBody)


def parse_response(body: bytes, headers: Headers = (), *, limits: Limits = LIMITS) -> Asked:
    """The request in a body and its `x-rheostat-*` headers.

    Raises:
        RequestError: status 400; `param` names the field.
    """
    fields = decode(body, _RESPONSE)
    extra = _extra(fields)
    check_depth({"input": fields.input, **extra}, limits.max_depth, body)
    messages = _messages(fields)
    _check(messages)
    generating = Generating(
        model=fields.model, rheostat=fields.rheostat, stream=fields.stream, temperature=fields.temperature, top_p=fields.top_p
    )
    tokens = fields.max_output_tokens
    chat = chat_of(generating, messages, extra=extra, tokens=tokens, tokens_param="max_output_tokens", headers=headers, limits=limits)
    return Asked(chat=chat, body=fields)


def response(chat: ChatCompletion, asked: Asked) -> Response:
    """A chat completion in the words of this API."""
    choice = chat.choices[0]
    number = _number(chat.id)
    return Response(
        id=f"resp_{number}",
        created_at=chat.created,
        status=status_of(choice.finish_reason),
        incomplete_details=why_incomplete(choice.finish_reason),
        model=chat.model,
        output=_output(choice, number),
        usage=response_usage(chat.usage),
        rheostat=chat.rheostat,
        **asked.repeated,
    )


def response_usage(usage: Usage) -> ResponseUsage:
    """Usage by other names."""
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=usage.prompt_tokens_details,
        output_tokens=usage.completion_tokens,
        output_tokens_details=usage.completion_tokens_details,
        total_tokens=usage.total_tokens,
    )


def _number(chat_id: str) -> str:
    return chat_id.removeprefix("chatcmpl-")


def status_of(finish_reason: str | None) -> Literal["completed", "incomplete"]:
    """How a response ended whose answer ended so."""
    return "incomplete" if finish_reason == "length" else "completed"


def why_incomplete(finish_reason: str | None) -> dict[str, str] | None:
    """What cut the response short, where anything did."""
    return {"reason": "max_output_tokens"} if finish_reason == "length" else None


def _output(choice: Choice, number: str) -> list[OutputItem]:
    message, status = choice.message, status_of(choice.finish_reason)
    calls: list[OutputItem] = [
        FunctionCall(
            id=f"fc_{number}_{index}",
            call_id=call["id"],
            name=call["function"]["name"],
            arguments=call["function"]["arguments"],
            status=status,
        )
        for index, call in enumerate(message.tool_calls or ())
    ]
    if calls and not message.content:
        return calls
    logprobs = (choice.logprobs and choice.logprobs.content) or []
    text = OutputText(text=message.content or "", logprobs=logprobs)
    return [OutputMessage(id=f"msg_{number}", status=status, content=[text]), *calls]


def _extra(fields: ResponseBody) -> Fields:
    extra = {
        "tools": [_tool(tool, f"tools[{index}]") for index, tool in enumerate(fields.tools or ())] or None,
        "tool_choice": _tool_choice(fields.tool_choice),
        "parallel_tool_calls": fields.parallel_tool_calls if fields.tools else None,
        "response_format": _format(fields.text.format) if fields.text and fields.text.format else None,
        "reasoning_effort": fields.reasoning.effort if fields.reasoning else None,
    }
    return {name: value for name, value in extra.items() if value is not None}


def _tool(tool: Item, at: str) -> Item:
    if tool.get("type") != "function":
        raise RequestError(f"{at}.type: {shown(tool.get('type'))} is not served: only 'function' tools are", param=f"{at}.type")
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _tool_choice(choice: str | Item | None) -> str | Item | None:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
        raise RequestError("tool_choice: must be a string, or name a function", param="tool_choice")
    return {"type": "function", "function": {"name": choice["name"]}}


def _format(format_: Item) -> Item | None:
    """`text.format` is flat where `response_format` holds the schema in a field of its own."""
    if format_.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {name: value for name, value in format_.items() if name != "type"}}
    if format_.get("type") not in ("text", "json_object"):
        raise RequestError(f"text.format.type: {shown(format_.get('type'))} is not served", param="text.format.type")
    return None if format_["type"] == "text" else {"type": "json_object"}


def _messages(fields: ResponseBody) -> list[Item]:
    messages = [{"role": "system", "content": fields.instructions}] if fields.instructions else []
    items = [{"role": "user", "content": fields.input}] if isinstance(fields.input, str) else fields.input
    for index, item in enumerate(items):
        _append(messages, item, f"input[{index}]")
    return messages


def _append(messages: list[Item], item: Item, at: str) -> None:
    """Add what an item stands for; calls made in one turn are one message of the assistant."""
    kind = item.get("type", "message")
    if kind == "reasoning":
        return
    if kind == "function_call":
        call = {"id": item.get("call_id"), "type": "function", "function": {"name": item.get("name"), "arguments": item.get("arguments")}}
        if messages and messages[-1]["role"] == "assistant":
            messages[-1] = {**messages[-1], "tool_calls": [*messages[-1].get("tool_calls", ()), call]}
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif kind == "function_call_output":
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")})
    elif kind == "message":
        messages.append({"role": item.get("role"), "content": _content(item.get("content"), at)})
    else:
        raise RequestError(f"{at}.type: {shown(kind)} is not served", param=f"{at}.type")


def _content(content: Any, at: str) -> Any:
    """Text parts by the name that chats have for them; whatever is none of them is left for the check of messages."""
    if not isinstance(content, list):
        return content
    return [_part(part, f"{at}.content[{index}]") for index, part in enumerate(content)]


def _part(part: Any, at: str) -> Item:
    if not isinstance(part, dict) or part.get("type") not in TEXT_PARTS:
        what = shown(part.get("type") if isinstance(part, dict) else part)
        raise RequestError(f"{at}.type: {what} is not served: only text parts are", param=f"{at}.type")
    return {"type": "text", "text": part.get("text")}


def _check(messages: list[Item]) -> None:
    """As for chats; the errors speak of `input`, which is what the client knows."""
    try:
        check_messages(messages)
    except RequestError as error:
        raise RequestError(f"input: {error}", param="input", code=error.code) from error
