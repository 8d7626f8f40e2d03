"""The wire format of streamed completions, as OpenAI defines it and vLLM extends it; only what is read here.

Shape source: vLLM 0.32, entrypoints/openai/chat_completion/protocol.py.
"""

from __future__ import annotations

from typing import Any

import msgspec


class PromptDetails(msgspec.Struct, frozen=True):
    """Parts of the prompt."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True):
    """Parts of the completion."""

    reasoning_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the server counts them."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Function(msgspec.Struct, frozen=True):
    """A piece of a called function."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A piece of a tool call; pieces of the same `index` belong together."""

    index: int = 0
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct, frozen=True):
    """What a chunk adds to a sample. Engines call thinking `reasoning` or `reasoning_content`."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class TokenLogprob(msgspec.Struct, frozen=True):
    """The log-probability of one sampled token."""

    logprob: float
    token: str = ""
    bytes: list[int] | None = None
    top_logprobs: list[dict[str, Any]] = []


class Logprobs(msgspec.Struct, frozen=True):
    """The log-probabilities of a chunk's tokens; plain completions give them as a bare list."""

    content: list[TokenLogprob] | None = None
    token_logprobs: list[float | None] | None = None


class Choice(msgspec.Struct, frozen=True):
    """What a chunk says of one sample; plain completions add `text`."""

    index: int
    delta: Delta = Delta()
    text: str | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, frozen=True):
    """One event of a streamed chat completion; a field not named here is skipped."""

    id: str | None = None
    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
decode_chunks = msgspec.json.Decoder(list[Chunk]).decode
