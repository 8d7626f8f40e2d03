"""Answers as OpenAI's clients read them, as structs: what is sent is what `/openapi.json` describes.

Shapes: OpenAI's API reference for chat completions, completions, responses and models. `rheostat` is this product's own.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from rheostat.data.ledger import Ledger
from rheostat.data.schema import Guarantee
from rheostat.policies.chunks import TokenLogprob
from rheostat.serving.path import Step


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all answers."""


class PromptDetails(Shape, frozen=True, kw_only=True):
    """Parts of the prompt."""

    cached_tokens: int


class CompletionDetails(Shape, frozen=True, kw_only=True):
    """Parts of what was generated."""

    reasoning_tokens: int


class Usage(Shape, frozen=True, kw_only=True):
    """Tokens of everything a request spent, not only of the text it was given."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Alternative(Shape, frozen=True, kw_only=True):
    """Another action of the frontier."""

    p_correct: float
    cost_usd: float


class Told(Shape, frozen=True, kw_only=True):
    """The `rheostat` block: what was decided, what it cost, and how sure it was."""

    decision_id: str
    action: str
    tier: str
    rule: str
    target: float | None
    p_correct: float | None
    p_interval: tuple[float, float] | None
    feasible: bool
    guarantee: Guarantee | None = None
    explored: bool
    cost_usd: float
    ledger: Ledger
    samples: int
    agreement: float | None
    stop_reason: str
    verified: bool | None = None
    path: list[Step] = []
    degraded: str | None
    bundle: str
    alternatives: dict[str, Alternative]


class ChoiceLogprobs(Shape, frozen=True, kw_only=True):
    """The log-probabilities of an answer's tokens."""

    content: list[TokenLogprob] | None = None


class Message(Shape, frozen=True, kw_only=True):
    """An answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET


class Choice(Shape, frozen=True, kw_only=True):
    """One answer of several."""

    index: int
    message: Message
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str


class ChatCompletion(Shape, frozen=True, kw_only=True):
    """The answer of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    rheostat: Told


class TextLogprobs(Shape, frozen=True, kw_only=True):
    """The log-probabilities of a text's tokens, as four lists of one length."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Shape, frozen=True, kw_only=True):
    """One text of several."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: str | None


class TextCompletion(Shape, frozen=True, kw_only=True):
    """The answer of `/v1/completions`, and with UNSET for what comes last, a chunk of its stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType = UNSET
    rheostat: Told | UnsetType = UNSET


class ResponseUsage(Shape, frozen=True, kw_only=True):
    """`Usage` in the words of `/v1/responses`."""

    input_tokens: int
    input_tokens_details: PromptDetails
    output_tokens: int
    output_tokens_details: CompletionDetails
    total_tokens: int


class OutputText(Shape, frozen=True, kw_only=True, tag_field="type", tag="output_text"):
    """A text of an output message."""

    text: str
    annotations: list[Any] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(Shape, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A message among the output."""

    id: str
    status: str
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class FunctionCall(Shape, frozen=True, kw_only=True, tag_field="type", tag="function_call"):
    """A tool call among the output."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: str


OutputItem = OutputMessage | FunctionCall


class Response(Shape, frozen=True, kw_only=True):
    """The answer of `/v1/responses`. What the request asked is repeated in it, as OpenAI's own does."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[OutputItem] = []
    error: Any = None
    incomplete_details: dict[str, str] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    store: Literal[False] = False
    temperature: float | None = None
    text: dict[str, Any] = msgspec.field(default_factory=lambda: {"format": {"type": "text"}})
    tool_choice: str | dict[str, Any] = "auto"
    tools: list[dict[str, Any]] = []
    top_p: float | None = None
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    rheostat: Told | UnsetType = UNSET


class Model(Shape, frozen=True, kw_only=True):
    """A value of `model` that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "rheostat"


class Models(Shape, frozen=True, kw_only=True):
    """The answer of `/v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]


class DayUsage(Shape, frozen=True, kw_only=True):
    """What one tenant used on one day of UTC."""

    day: str
    tenant: str
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    cost_usd: float = 0.0


class UsageReport(Shape, frozen=True, kw_only=True):
    """The answer of `/v1/usage`, newest day first."""

    object: Literal["list"] = "list"
    data: list[DayUsage]


class KeyState(Shape, frozen=True, kw_only=True):
    """One key as the admin listener shows it; null is no limit."""

    name: str
    tenant: str
    tiers: list[str]
    in_flight: int
    requests_left: float | None
    tokens_left: float | None
    usd_left: float | None


class Failure(Shape, frozen=True, kw_only=True):
    """What went wrong; `param` is the field it is about."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(Shape, frozen=True, kw_only=True):
    """The body of every answer that is no success."""

    error: Failure
