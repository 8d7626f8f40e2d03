"""`/v1/completions`: a prompt instead of a conversation. It is asked as one user message, and answered by the executor.

Engines apply their chat template to it: there is one way into a strategy, and it is a conversation.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET

from rheostat.data.errors import RequestError
from rheostat.serving.answer import DONE, event
from rheostat.serving.decoding import check_depth, decode
from rheostat.serving.options import Headers
from rheostat.serving.shapes import ChatCompletion, ChoiceLogprobs, TextChoice, TextCompletion, TextLogprobs
from rheostat.serving.wire import LIMITS, Chat, Generating, Limits, chat_of, passed_on


class CompletionBody(Generating, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of `/v1/completions` that are served."""

    prompt: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=1)]
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None


_COMPLETION = msgspec.json.Decoder(CompletionBody)


def parse_completion(body: bytes, headers: Headers = (), *, limits: Limits = LIMITS) -> Chat:
    """The request in a body and its `x-rheostat-*` headers.

    Raises:
        RequestError: status 400; `param` names the field.
    """
    fields = decode(body, _COMPLETION)
    prompt = fields.prompt if isinstance(fields.prompt, str) else fields.prompt[0]
    if not prompt.strip():
        raise RequestError("prompt: is empty", param="prompt")
    extra = passed_on(fields)
    check_depth(extra, limits.max_depth, body)
    if fields.logprobs is not None:
        extra |= {"logprobs": True, "top_logprobs": fields.logprobs}
    messages = [{"role": "user", "content": prompt}]
    return chat_of(fields, messages, extra=extra, tokens=fields.max_tokens, tokens_param="max_tokens", headers=headers, limits=limits)


def text_completion(chat: ChatCompletion) -> TextCompletion:
    """A chat completion in the words of this API."""
    return TextCompletion(
        id=_text_id(chat.id),
        created=chat.created,
        model=chat.model,
        choices=[
            TextChoice(
                index=choice.index,
                text=choice.message.content or "",
                logprobs=_text_logprobs(choice.logprobs),
                finish_reason=choice.finish_reason,
            )
            for choice in chat.choices
        ],
        usage=chat.usage,
        rheostat=chat.rheostat,
    )


class TextStream:
    """Chat completion chunks as chunks of a text completion; see `dialect.Translator`."""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """A chunk with text, or with the end of one, or the last one with usage."""
        choices = [choice for choice in map(_text_choice, chunk.get("choices", ())) if choice.text or choice.finish_reason]
        told = chunk.get("rheostat", UNSET)
        if not choices and told is UNSET:
            return b""
        return event(
            TextCompletion(
                id=_text_id(chunk.get("id", "")),
                created=chunk.get("created", 0),
                model=chunk.get("model", ""),
                choices=choices,
                usage=UNSET if told is UNSET else chunk["usage"],
                rheostat=told,
            )
        )

    def end(self) -> bytes:
        """The same end mark."""
        return DONE


def _text_choice(choice: dict[str, Any]) -> TextChoice:
    delta = choice.get("delta") or {}
    logprobs = choice.get("logprobs")
    return TextChoice(
        index=choice["index"],
        text=delta.get("content") or "",
        logprobs=_text_logprobs(msgspec.convert(logprobs, ChoiceLogprobs)) if logprobs else None,
        finish_reason=choice.get("finish_reason"),
    )


def _text_logprobs(logprobs: ChoiceLogprobs | None) -> TextLogprobs | None:
    if logprobs is None or logprobs.content is None:
        return None
    tokens = [token.token for token in logprobs.content]
    return TextLogprobs(
        tokens=tokens,
        token_logprobs=[token.logprob for token in logprobs.content],
        top_logprobs=[{top["token"]: top["logprob"] for top in token.top_logprobs} for token in logprobs.content],
        text_offset=[0, *accumulate(map(len, tokens))][: len(tokens)],
    )


def _text_id(chat_id: str) -> str:
    return chat_id.replace("chatcmpl-", "cmpl-", 1)
