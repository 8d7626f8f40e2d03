"""What is posted to an engine for a request: a chat, or the going on with a reply through plain completions.

Knows the wire of vLLM's two endpoints and no sockets. A reply that has begun goes through completions with the rendered
prompt, not through a chat that continues its last message: templates trim and close such a message in their own ways.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from rheostat.policies.base import GenerateRequest

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
THINKING_FIELD = "thinking_token_budget"
STREAM_OPTIONS = {"include_usage": True, "continuous_usage_stats": True}
# The cap is the strategy's, and vLLM lets the newer field win over max_tokens.
OVERRIDES = frozenset({"max_completion_tokens", "use_beam_search", "best_of"})
TEMPLATE_FIELDS = ("tools", "chat_template", "chat_template_kwargs")
CHAT_ONLY = frozenset({*TEMPLATE_FIELDS, "tool_choice", "parallel_tool_calls", "reasoning_effort", "include_reasoning", "top_logprobs"})


class Post(NamedTuple):
    """A path and the body posted there."""

    path: str
    body: bytes


def chat(request: GenerateRequest, model: str) -> Post:
    """The request as a streamed chat."""
    fields = _common(request, model)
    fields["messages"] = request.messages
    # What the strategy leaves open stays the client's.
    if request.logprobs:
        fields["logprobs"] = True
    if request.beam_search:
        fields["use_beam_search"] = True
    if request.thinking_tokens is not None:
        fields[THINKING_FIELD] = request.thinking_tokens
    return Post(CHAT_PATH, msgspec.json.encode(fields))


def continuation(request: GenerateRequest, model: str, prompt: str) -> Post:
    """The request as a streamed completion of a rendered prompt and the beginning of the reply."""
    fields = {name: value for name, value in _common(request, model).items() if name not in CHAT_ONLY}
    # The template has written the special tokens out.
    fields |= {"prompt": prompt + request.prefill, "add_special_tokens": False}
    if request.logprobs or fields.pop("logprobs", None):
        fields["logprobs"] = 0
    return Post(COMPLETIONS_PATH, msgspec.json.encode(fields))


def rendering(request: GenerateRequest, model: str) -> dict[str, Any]:
    """What /tokenize is asked for the tokens of the conversation and the beginning of a reply."""
    given = {name: request.extra[name] for name in TEMPLATE_FIELDS if name in request.extra}
    return {**given, "model": model, "messages": request.messages, "add_generation_prompt": True}


def _common(request: GenerateRequest, model: str) -> dict[str, Any]:
    fields = {name: value for name, value in request.extra.items() if name not in OVERRIDES and value is not None}
    fields |= {
        "model": model,
        "max_tokens": request.max_tokens,
        "n": request.n,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stream": True,
        "stream_options": STREAM_OPTIONS,
    }
    if request.seed is not None:
        fields["seed"] = request.seed
    if request.stop:
        fields["stop"] = request.stop
    return fields
