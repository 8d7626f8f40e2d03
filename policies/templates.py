"""What an engine's own tokenizer makes of a conversation: the prompt as it is rendered, and how long it is.

Knows the two endpoints of vLLM that tell, and no others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import GenerateRequest
from rheostat.policies.bodies import TEMPLATE_FIELDS, rendering
from rheostat.policies.transport import NotSentError

TOKENIZE_PATH = "/tokenize"
DETOKENIZE_PATH = "/detokenize"
MAX_PROMPTS = 256  # rendered prompts kept, so that every step of a search does not render its question again
TEMPLATE_BYTES = 64  # what a template adds to a message, generously

Told = TypeVar("Told")
Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Templates:
    """One engine's rendering.

    Args:
        ask: posts fields to a path of the engine and gives the JSON it answers with; raises UpstreamError.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._prompts: dict[bytes, str] = {}
        self._context_tokens: int | None = None

    async def prompt(self, request: GenerateRequest, model: str) -> str:
        """The conversation as it is rendered, up to where the reply begins.

        Raises:
            UpstreamError: the engine cannot tell.
        """
        fields = rendering(request, model)
        key = msgspec.json.encode(fields)
        if key not in self._prompts:
            tokens = await self._told(TOKENIZE_PATH, fields, "tokens", list)
            prompt = await self._told(DETOKENIZE_PATH, {"model": model, "tokens": tokens}, "prompt", str)
            if len(self._prompts) >= MAX_PROMPTS:
                del self._prompts[next(iter(self._prompts))]
            self._prompts[key] = prompt
        return self._prompts[key]

    async def fitted(self, request: GenerateRequest, model: str) -> GenerateRequest:
        """The request with no more tokens than the context holds behind its prompt, where that context is known.

        Raises:
            UpstreamError: the engine cannot tell.
        """
        most = self._context_tokens
        # No token is shorter than a byte, so a prompt of few bytes needs no counting.
        if most is None or (_is_plain(request) and _most_bytes(request) + request.max_tokens <= most):
            return request
        return await self._cut(request, model, most)

    async def refitted(self, request: GenerateRequest, model: str) -> GenerateRequest:
        """The request as it fits, once the engine has refused it as too long; the same where the engine cannot tell."""
        try:
            most = await self._told(TOKENIZE_PATH, rendering(request, model), "max_model_len", int)
            self._context_tokens = most
            return await self._cut(request, model, most)
        except UpstreamError:
            return request

    async def _cut(self, request: GenerateRequest, model: str, most: int) -> GenerateRequest:
        room = most - await self._count(request, model)
        return msgspec.structs.replace(request, max_tokens=min(request.max_tokens, room)) if room >= 1 else request

    async def _count(self, request: GenerateRequest, model: str) -> int:
        fields = rendering(request, model)
        if request.prefill:
            prompt = await self.prompt(request, model)
            fields = {"model": model, "prompt": prompt + request.prefill, "add_special_tokens": False}
        return await self._told(TOKENIZE_PATH, fields, "count", int)

    async def _told(self, path: str, fields: dict[str, Any], name: str, kind: type[Told]) -> Told:
        """One field of an answer; another server may have the path and answer otherwise."""
        told = (await self._ask(path, fields)).get(name)
        if not isinstance(told, kind):
            raise NotSentError(
                f"{path} gave no {name!r} that is of type {kind.__name__}: is it a vLLM server?", backend=str(fields["model"])
            )
        return told


def _is_plain(request: GenerateRequest) -> bool:
    """Whether all of the prompt is in the messages: how much a template writes of tools cannot be told from their bytes."""
    return not any(request.extra.get(name) for name in TEMPLATE_FIELDS)


def _most_bytes(request: GenerateRequest) -> int:
    return sum(len(msgspec.json.encode(message)) + TEMPLATE_BYTES for message in request.messages) + len(request.prefill.encode())
