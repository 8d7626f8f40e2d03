"""Bytes to a checked chat request. Knows the shape of OpenAI's and vLLM's fields; knows no backend and no router.

Everything a client can get wrong is found here, before anything is spent, and is a RequestError that names the field.
Fields are an allowlist: what is not declared is refused, so nothing reaches an engine that nobody thought about.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from rheostat.data.answers import infer_kind
from rheostat.data.errors import ActionError, RequestError
from rheostat.data.schema import Action, Constraints, Query, Sampling, new_id

MAX_DEADLINE_MS = 3_600_000
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1024
ROLES = ("system", "developer", "user", "assistant", "tool")
HEADER_PREFIX = "x-rheostat-"
INTERNAL_PREFIX = "x-rheostat-internal-"

T = TypeVar("T")
Probability = Annotated[float, msgspec.Meta(gt=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `rheostat` object of a request, or the `x-rheostat-*` headers; the body wins over a header."""

    target_accuracy: Probability | None = None
    max_cost_usd: Annotated[float, msgspec.Meta(ge=0)] | None = None
    max_tokens_total: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    deadline_ms: Annotated[float, msgspec.Meta(gt=0, le=MAX_DEADLINE_MS)] | None = None
    action: Annotated[str, msgspec.Meta(max_length=300)] | None = None
    reference: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None
    verifier: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    explore: bool = True
    strict: bool = False
    high_stakes: bool = False
    progress: bool = False


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OpenAI's `stream_options`: usage is always sent here, so both are accepted and change nothing."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class ChatBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of `/v1/chat/completions` that are served."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=2048)]
    rheostat: Options | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    stop: str | list[str] | None = None
    # Passed to the engine as they came.
    tools: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=128)] | UnsetType | None = UNSET
    tool_choice: str | dict[str, Any] | UnsetType | None = UNSET
    parallel_tool_calls: bool | UnsetType | None = UNSET
    response_format: dict[str, Any] | UnsetType | None = UNSET
    structured_outputs: dict[str, Any] | UnsetType | None = UNSET
    frequency_penalty: Penalty | UnsetType | None = UNSET
    presence_penalty: Penalty | UnsetType | None = UNSET
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=10)] | UnsetType | None = UNSET
    logit_bias: Annotated[dict[str, Annotated[float, msgspec.Meta(ge=-100, le=100)]], msgspec.Meta(max_length=1024)] | UnsetType | None = (
        UNSET
    )
    top_k: Annotated[int, msgspec.Meta(ge=-1, le=1000000)] | UnsetType | None = UNSET
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | UnsetType | None = UNSET
    min_tokens: Annotated[int, msgspec.Meta(ge=0, le=1000000)] | UnsetType | None = UNSET
    ignore_eos: bool | UnsetType | None = UNSET
    skip_special_tokens: bool | UnsetType | None = UNSET
    include_stop_str_in_output: bool | UnsetType | None = UNSET
    stop_token_ids: Annotated[list[int], msgspec.Meta(max_length=64)] | UnsetType | None = UNSET
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | UnsetType | None = UNSET
    thinking_token_budget: Annotated[int, msgspec.Meta(ge=0, le=1000000)] | UnsetType | None = UNSET
    # Read by OpenAI's own service only: accepted, so that a client need not change, and dropped.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


PASSED_ON = tuple(f.name for f in msgspec.structs.fields(ChatBody) if f.default is UNSET)
_MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_content", "reasoning"})
_CHAT = msgspec.json.Decoder(ChatBody)
_TOP_LEVEL = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A checked chat request: the query and how it wants to be answered."""

    model: str
    query: Query
    n: int = 1
    stream: bool = False
    progress: bool = False
    action: Action | None = None
    verifier: str | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what a request may ask for."""

    max_depth: int = 64
    max_tokens: int = 16_384


LIMITS = Limits()


def parse_chat(body: bytes, headers: Iterable[tuple[bytes, bytes]] = (), *, limits: Limits = LIMITS) -> Chat:
    """The chat request in a body and its `x-rheostat-*` headers.

    Raises:
        RequestError: status 400; `param` names the field, None `body` where it is no JSON object at all.
    """
    fields = _decoded(body)
    _check_depth(fields.messages, "messages", limits.max_depth)
    extra = {name: getattr(fields, name) for name in PASSED_ON if getattr(fields, name) not in (UNSET, None)}
    _check_depth(extra, None, limits.max_depth)
    _check_messages(fields.messages)
    options = _merged(fields.rheostat, _header_options(headers))
    n = fields.n or 1
    query = Query(
        query_id=new_id("q"),
        messages=tuple(fields.messages),
        sampling=Sampling(
            temperature=fields.temperature,
            top_p=fields.top_p,
            seed=fields.seed,
            max_tokens=_max_tokens(fields, n, limits),
            stop=_stops(fields.stop),
            extra=extra,
        ),
        constraints=_constraints(options),
        reference=options.reference,
    )
    query = msgspec.structs.replace(query, kind=infer_kind(query.text))
    return Chat(
        model=fields.model,
        query=query,
        n=n,
        stream=bool(fields.stream),
        progress=options.progress,
        action=_action(options.action),
        verifier=options.verifier,
    )


class Feedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `/v1/feedback`: exactly one of reward, label and correction."""

    decision_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    reward: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    label: Literal["correct", "incorrect"] | None = None
    correction: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)] | None = None
    source: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "feedback"


def parse_feedback(body: bytes) -> Feedback:
    """The feedback in a body.

    Raises:
        RequestError: status 400; `param` names the field.
    """
    feedback = _convert(body, msgspec.json.Decoder(Feedback))
    given = [name for name in ("reward", "label", "correction") if getattr(feedback, name) is not None]
    if len(given) != 1:
        raise RequestError(f"give exactly one of reward, label and correction, not {len(given)}", param=given[-1] if given else "reward")
    return feedback


def _decoded(body: bytes) -> ChatBody:
    fields = _convert(body, _CHAT)
    _check_duplicates(body)
    return fields


def _convert(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _of_validation(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is no JSON: {error}", param="body", code="invalid_json") from error
    except RecursionError as error:
        raise RequestError("the body is nested too deeply", param="body", code="invalid_json") from error


def _of_validation(message: str) -> RequestError:
    """msgspec's own sentence, with the field it is about."""
    text, _, path = message.partition(" - at `$")
    parent = path.strip("`").lstrip(".").removesuffix("[...]")
    named = re.search(r"field `([^`]*)`", text)
    param = ".".join(part for part in (parent, named[1] if named else "") if part) or "body"
    return RequestError(f"{param}: {text}", param=param, code="unknown_field" if "unknown field" in text else None)


def _check_duplicates(body: bytes) -> None:
    """A key given twice has two meanings: refuse it. The slow exact look is taken only when a key may repeat."""
    keys = _TOP_LEVEL.decode(body)
    if b"\\u00" in body or any(body.count(b'"%b"' % key.encode()) > 1 for key in keys):
        try:
            json.loads(body, object_pairs_hook=_unique_keys)
        except RecursionError as error:
            raise RequestError("the body is nested too deeply", param="body", code="invalid_json") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RequestError(f"{twice}: the key is given twice", param=twice, code="duplicate_key")
    return unique


def _check_depth(value: Any, param: str | None, limit: int) -> None:
    """Level by level and without recursion, so that a deep value cannot exhaust the stack."""
    level = [(param, value)] if param else list(value.items())
    for _ in range(limit):
        level = [(name, child) for name, item in level for child in _children(item)]
        if not level:
            return
    raise RequestError(f"{level[0][0]}: nested deeper than {limit} levels", param=level[0][0])


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _check_messages(messages: list[dict[str, Any]]) -> None:
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")
    if not any(message["role"] == "user" for message in messages):
        raise RequestError("messages: one message must have the role 'user'", param="messages")


def _check_message(message: dict[str, Any], at: str) -> None:
    unknown = next((key for key in message if key not in _MESSAGE_FIELDS), None)
    if unknown is not None:
        raise RequestError(
            f"{at}.{unknown}: unknown field; known are {', '.join(sorted(_MESSAGE_FIELDS))}", param=f"{at}.{unknown}", code="unknown_field"
        )
    role = message.get("role")
    if role not in ROLES:
        raise RequestError(f"{at}.role: {_shown(role)} is none of {', '.join(ROLES)}", param=f"{at}.role")
    _check_content(message, at)
    for name in ("name", "tool_call_id", "refusal", "reasoning_content", "reasoning"):
        if not isinstance(message.get(name), str | None):
            raise RequestError(f"{at}.{name}: must be a string", param=f"{at}.{name}")
    if not _is_objects(message.get("tool_calls", [])):
        raise RequestError(f"{at}.tool_calls: must be a list of objects", param=f"{at}.tool_calls")


def _check_content(message: dict[str, Any], at: str) -> None:
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        return
    if isinstance(content, list) and content:
        for index, part in enumerate(content):
            _check_part(part, f"{at}.content[{index}]")
        return
    if not isinstance(content, str):
        raise RequestError(f"{at}.content: must be a string or a list of text parts", param=f"{at}.content")
    if not content.strip() and message["role"] == "user":
        raise RequestError(f"{at}.content: is empty", param=f"{at}.content")


def _check_part(part: Any, at: str) -> None:
    if not isinstance(part, dict):
        raise RequestError(f"{at}: must be an object", param=at)
    if part.get("type") != "text":
        raise RequestError(f"{at}.type: {_shown(part.get('type'))} is not served: only 'text' parts are", param=f"{at}.type")
    if not isinstance(part.get("text"), str):
        raise RequestError(f"{at}.text: must be a string", param=f"{at}.text")
    unknown = next((key for key in part if key not in ("type", "text")), None)
    if unknown is not None:
        raise RequestError(f"{at}.{unknown}: unknown field; known are type, text", param=f"{at}.{unknown}", code="unknown_field")


def _is_objects(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(item, dict) for item in value))


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."


def _max_tokens(fields: ChatBody, n: int, limits: Limits) -> int | None:
    name = "max_completion_tokens" if fields.max_completion_tokens is not None else "max_tokens"
    asked: int | None = getattr(fields, name)
    if (asked or 1) * n > limits.max_tokens:
        raise RequestError(f"{name}: {asked or 1} tokens times n={n} is more than the {limits.max_tokens} this server allows", param=name)
    return asked


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS or any(not text or len(text) > MAX_STOP_CHARACTERS for text in stops):
        raise RequestError(f"stop: at most {MAX_STOPS} texts of 1 to {MAX_STOP_CHARACTERS} characters", param="stop")
    return stops


def _header_options(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The options in headers: `x-rheostat-deadline-ms: 500` is `deadline_ms`. Internal ones are not a client's to set."""
    given: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if not name.startswith(HEADER_PREFIX) or name.startswith(INTERNAL_PREFIX):
            continue
        option = name.removeprefix(HEADER_PREFIX).replace("-", "_")
        if option not in Options.__struct_fields__:
            known = ", ".join(HEADER_PREFIX + field.replace("_", "-") for field in Options.__struct_fields__)
            raise RequestError(f"{name}: unknown header; known are {known}", param=name, code="unknown_field")
        if option in given:
            raise RequestError(f"{name}: the header is given twice", param=name, code="duplicate_key")
        given[option] = raw_value.decode("latin-1").strip()
    return given


def _merged(body: Options | None, headers: Mapping[str, str]) -> Options:
    if not headers:
        return body or Options()
    try:
        parsed = msgspec.convert(dict(headers), Options, strict=False)
    except msgspec.ValidationError as error:
        wrong = _of_validation(str(error))
        raise RequestError(f"header {wrong}", param=HEADER_PREFIX + (wrong.param or "").replace("_", "-")) from error
    for name in headers:
        value = getattr(parsed, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise RequestError(f"header {name}: {value} is no number", param=HEADER_PREFIX + name.replace("_", "-"))
    set_in_body = {} if body is None else {f.name: v for f in msgspec.structs.fields(body) if (v := getattr(body, f.name)) != f.default}
    return msgspec.structs.replace(parsed, **set_in_body)


def _constraints(options: Options) -> Constraints:
    return Constraints(
        target_accuracy=options.target_accuracy,
        max_cost_usd=options.max_cost_usd,
        max_tokens_total=options.max_tokens_total,
        deadline_s=None if options.deadline_ms is None else options.deadline_ms / 1000,
        high_stakes=options.high_stakes,
        strict=options.strict,
        explore=options.explore,
    )


def _action(spelling: str | None) -> Action | None:
    if spelling is None:
        return None
    try:
        return Action.parse(spelling)
    except ActionError as error:
        raise RequestError(f"rheostat.action: {error}", param="rheostat.action") from error
