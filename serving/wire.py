"""Bytes to a checked chat request. Knows the shape of OpenAI's and vLLM's fields; knows no backend and no router.

Everything a client can get wrong is found here, before anything is spent, and is a RequestError that names the field.
Fields are an allowlist: what is not declared is refused, so nothing reaches an engine that nobody thought about.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rheostat.data.answers import infer_kind
from rheostat.data.errors import RequestError
from rheostat.data.schema import Action, Query, Sampling, new_id, question
from rheostat.serving.decoding import check_depth, decode
from rheostat.serving.messages import Message, check_messages
from rheostat.serving.options import Headers, Options, Probability, read_options

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1024

Tokens = Annotated[int, msgspec.Meta(ge=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Bias = Annotated[dict[str, Annotated[float, msgspec.Meta(ge=-100, le=100)]], msgspec.Meta(max_length=1024)]
Effort = Literal["none", "minimal", "low", "medium", "high"]
Tools = Annotated[list[dict[str, Any]], msgspec.Meta(max_length=128)]
Metadata = Annotated[dict[str, str], msgspec.Meta(max_length=16)]


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's `stream_options`: usage is always sent here, so all are accepted and change nothing."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class Generating(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields that chat completions and text completions have in common.

    A field whose default is UNSET goes to the engine as it came.
    """

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    rheostat: Options | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    max_tokens: Tokens | None = None
    stop: str | list[str] | None = None
    response_format: dict[str, Any] | UnsetType | None = UNSET
    structured_outputs: dict[str, Any] | UnsetType | None = UNSET
    frequency_penalty: Penalty | UnsetType | None = UNSET
    presence_penalty: Penalty | UnsetType | None = UNSET
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=10)] | UnsetType | None = UNSET
    logit_bias: Bias | UnsetType | None = UNSET
    top_k: Annotated[int, msgspec.Meta(ge=-1, le=1_000_000)] | UnsetType | None = UNSET
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | UnsetType | None = UNSET
    min_tokens: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | UnsetType | None = UNSET
    ignore_eos: bool | UnsetType | None = UNSET
    skip_special_tokens: bool | UnsetType | None = UNSET
    include_stop_str_in_output: bool | UnsetType | None = UNSET
    stop_token_ids: Annotated[list[int], msgspec.Meta(max_length=64)] | UnsetType | None = UNSET
    # Read by OpenAI's own service only: accepted, so that a client need not change, and dropped.
    user: str | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class ChatBody(Generating, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of `/v1/chat/completions` that are served."""

    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=2048)]
    max_completion_tokens: Tokens | None = None
    tools: Tools | UnsetType | None = UNSET
    tool_choice: str | dict[str, Any] | UnsetType | None = UNSET
    parallel_tool_calls: bool | UnsetType | None = UNSET
    logprobs: bool | UnsetType | None = UNSET
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | UnsetType | None = UNSET
    reasoning_effort: Effort | UnsetType | None = UNSET
    thinking_token_budget: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | UnsetType | None = UNSET


_CHAT = msgspec.json.Decoder(ChatBody)


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A checked chat request: the query and how it wants to be answered."""

    model: str
    query: Query
    n: int = 1
    stream: bool = False
    progress: bool = False
    action: Action | None = None
    verifier: str | None = None
    session: str | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what a request may ask for."""

    max_depth: int = 64
    max_tokens: int = 16_384


LIMITS = Limits()


def parse_chat(body: bytes, headers: Headers = (), *, limits: Limits = LIMITS) -> Chat:
    """The chat request in a body and its `x-rheostat-*` headers.

    Raises:
        RequestError: status 400; `param` names the field, `body` where it is no JSON object at all.
    """
    fields = decode(body, _CHAT)
    extra = passed_on(fields)
    check_depth({"messages": fields.messages, **extra}, limits.max_depth, body)
    check_messages(fields.messages)
    if extra.get("top_logprobs") and not extra.get("logprobs"):
        raise RequestError("top_logprobs: needs logprobs to be true", param="top_logprobs")
    name = "max_tokens" if fields.max_completion_tokens is None else "max_completion_tokens"
    return chat_of(fields, fields.messages, extra=extra, tokens=getattr(fields, name), tokens_param=name, headers=headers, limits=limits)


def chat_of(
    fields: Generating,
    messages: list[Message],
    *,
    extra: dict[str, Any],
    tokens: int | None,
    tokens_param: str,
    headers: Headers,
    limits: Limits,
) -> Chat:
    """The request that checked fields and messages stand for, whatever endpoint they came by.

    Args:
        fields: the body.
        messages: the conversation.
        extra: fields for the engine, as they came.
        tokens: the client's cap, if any; `tokens_param` is what it was called.
        headers: of the request, for options.
        limits: what it may ask for.

    Raises:
        RequestError: names the field.
    """
    options = read_options(fields.rheostat, headers)
    n = fields.n or 1
    if (tokens or 1) * n > limits.max_tokens:
        raise RequestError(
            f"{tokens_param}: {tokens or 1} tokens times n={n} is more than the {limits.max_tokens} this server allows", param=tokens_param
        )
    query = Query(
        query_id=new_id("q"),
        kind=infer_kind(question(messages)),
        messages=tuple(messages),
        sampling=Sampling(
            temperature=fields.temperature,
            top_p=fields.top_p,
            seed=fields.seed,
            max_tokens=tokens,
            stop=_stops(fields.stop),
            extra=extra,
        ),
        constraints=options.constraints,
        reference=options.reference,
    )
    return Chat(
        model=fields.model,
        query=query,
        n=n,
        stream=bool(fields.stream),
        progress=options.progress,
        action=options.forced,
        verifier=options.verifier,
        session=options.session,
    )


def passed_on(fields: msgspec.Struct) -> dict[str, Any]:
    """The fields that go to the engine as they came; null is the same as not given."""
    names = _optional(type(fields))
    return {name: value for name in names if (value := getattr(fields, name)) is not UNSET and value is not None}


@cache
def _optional(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Names of the fields that may be left out. Kept, since msgspec evaluates all annotations of a struct at every look."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if field.default is UNSET)


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS or any(not text or len(text) > MAX_STOP_CHARACTERS for text in stops):
        raise RequestError(f"stop: at most {MAX_STOPS} texts of 1 to {MAX_STOP_CHARACTERS} characters", param="stop")
    return stops
