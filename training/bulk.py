"""A backend for collecting in bulk: one unstreamed request of many samples, one typed parse of its answer.

At thousands of tokens a second a client that parses a chunk for every token costs more than a small engine. Here the
log-probabilities, one entry a token, come in one body, and the parse skips all else. A call that is cancelled has no
usage to book: its tokens are estimated from the samples seen before and marked so. Knows nothing of tasks or logs.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt, AttemptStatus
from rheostat.policies.base import Booking, Completion, GenerateRequest, Generation

CONNECT_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 600.0
_ERROR_CHARACTERS = 300
_RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class _Token(msgspec.Struct):
    logprob: float


class _LogProbs(msgspec.Struct):
    content: list[_Token] | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int
    message: _Message
    finish_reason: str | None = None
    logprobs: _LogProbs | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Response(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage


_response = msgspec.json.Decoder(_Response)


class BulkBackend:
    """A vLLM server (or any OpenAI-compatible one) asked without streaming.

    Args:
        name: how errors call it.
        url: the server's root, as in `http://127.0.0.1:8000`.
        model: the model's name on that server; None uses the request's.
        call_timeout_s: seconds after which a call counts as failed.
    """

    def __init__(
        self, name: str, url: str, *, model: str | None = None, api_key: str | None = None, call_timeout_s: float = CALL_TIMEOUT_S
    ) -> None:
        self.name = name
        self._url = f"{url.rstrip('/')}/v1/chat/completions"
        self._model = model
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._timeout = aiohttp.ClientTimeout(total=call_timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None
        self._seen_samples = 0
        self._seen_tokens = 0

    async def generate(self, request: GenerateRequest, book: Booking) -> Generation:
        """Run one call; see `rheostat.policies.base.Backend`."""
        started = time.perf_counter()
        try:
            response = await self._post(request)
        except aiohttp.ClientConnectorError as error:
            raise self._error(f"cannot be reached: {error}", retryable=True) from error
        except UpstreamError as error:
            book.book(self._lost(request, "failed", started, str(error), tokens=0))
            raise
        except (aiohttp.ClientError, TimeoutError) as error:
            book.book(self._lost(request, "failed", started, repr(error)))
            raise self._error(f"broke off: {error!r}", retryable=True) from error
        except asyncio.CancelledError:
            book.book(self._lost(request, "cancelled", started, None))
            raise
        return self._settle(request, response, book, time.perf_counter() - started)

    async def close(self) -> None:
        """Release connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, request: GenerateRequest) -> _Response:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0))
        data = msgspec.json.encode(_body(request, self._model or request.model))
        async with self._session.post(self._url, data=data, headers=self._headers) as answer:
            body = await answer.read()
        if answer.status != 200:
            text = body[:_ERROR_CHARACTERS].decode("utf-8", "replace")
            raise self._error(f"answered {answer.status}: {text}", status=answer.status, retryable=answer.status in _RETRYABLE_STATUS)
        try:
            return _response.decode(body)
        except msgspec.DecodeError as error:
            raise self._error(f"sent no chat completion: {error}", retryable=True) from error

    def _settle(self, request: GenerateRequest, response: _Response, book: Booking, latency_s: float) -> Generation:
        usage = response.usage
        details = usage.prompt_tokens_details
        ledger = Ledger(
            calls=1,
            prompt=usage.prompt_tokens,
            cached_prompt=(details.cached_tokens or 0) if details else 0,
            completion=usage.completion_tokens,
        )
        attempt = Attempt(model=request.model, kind="completion", status="ok", ledger=ledger, latency_s=latency_s, n=request.n)
        book.book(attempt)
        self._seen_samples += len(response.choices)
        self._seen_tokens += usage.completion_tokens
        choices = sorted(response.choices, key=lambda choice: choice.index)
        counts = sample_tokens(choices, usage.completion_tokens)
        return Generation(completions=tuple(map(_completion, choices, counts)), attempt=attempt)

    def _lost(
        self, request: GenerateRequest, status: AttemptStatus, started: float, error: str | None, tokens: int | None = None
    ) -> Attempt:
        """What a call without usage is booked as: the mean length of earlier samples, never over its own cap."""
        mean = self._seen_tokens / self._seen_samples if self._seen_samples else 0.0
        wasted = round(request.n * min(mean, request.max_tokens)) if tokens is None else tokens
        return Attempt(
            model=request.model,
            kind="completion",
            status=status,
            ledger=Ledger(calls=1, wasted=wasted),
            latency_s=time.perf_counter() - started,
            n=request.n,
            estimated=tokens is None,
            error=error,
        )

    def _error(self, what: str, *, status: int | None = None, retryable: bool = False) -> UpstreamError:
        return UpstreamError(f"backend {self.name!r} {what}", backend=self.name, status=status, retryable=retryable)


def _body(request: GenerateRequest, model: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        **request.extra,
        "model": model,
        "messages": request.messages,
        "max_tokens": request.max_tokens,
        "n": request.n,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stream": False,
    }
    if request.seed is not None:
        fields["seed"] = request.seed
    if request.stop:
        fields["stop"] = request.stop
    if request.logprobs:
        fields |= {"logprobs": True, "top_logprobs": 0}
    return fields


def sample_tokens(choices: list[_Choice], total: int) -> list[int]:
    """Tokens of each choice, summing to `total`: exact from log-probabilities, else shared out by length of text."""
    exact = [len(_logprobs(choice)) for choice in choices]
    if sum(exact) == total:
        return exact
    lengths = [len(choice.message.content or "") + 1 for choice in choices]
    ends = [round(total * sum(lengths[: i + 1]) / sum(lengths)) for i in range(len(lengths))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _logprobs(choice: _Choice) -> list[_Token]:
    return (choice.logprobs.content or []) if choice.logprobs else []


def _completion(choice: _Choice, tokens: int) -> Completion:
    logprobs = _logprobs(choice)
    return Completion(
        index=choice.index,
        text=choice.message.content or "",
        completion_tokens=tokens,
        finish_reason=choice.finish_reason or "stop",
        mean_logprob=sum(token.logprob for token in logprobs) / len(logprobs) if logprobs else None,
    )
