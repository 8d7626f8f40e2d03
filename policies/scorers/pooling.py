"""A model served by vLLM that only reads: its `/pooling`, `/classify` and `/score`, and what it finds likely of a text.

Knows no strategy and renders no prompt.

Reading costs prompt tokens and generates none; every call that was sent is booked once, however it ends.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt, AttemptStatus
from rheostat.policies.base import Booking
from rheostat.policies.http_client import HttpClient, Sent
from rheostat.policies.transport import KEEPALIVE_S, TransportErrors, refusal


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0


class _Pooled(msgspec.Struct, frozen=True):
    data: list[list[float]]


class _Classified(msgspec.Struct, frozen=True):
    probs: list[float]


class _Scored(msgspec.Struct, frozen=True):
    score: float


class _Likely(msgspec.Struct, frozen=True):
    text_offset: list[int]
    token_logprobs: list[float | None]


class _Echoed(msgspec.Struct, frozen=True):
    logprobs: _Likely


class _PooledReply(msgspec.Struct, frozen=True):
    data: list[_Pooled]
    usage: _Usage = _Usage()


class _ClassifiedReply(msgspec.Struct, frozen=True):
    data: list[_Classified]
    usage: _Usage = _Usage()


class _ScoredReply(msgspec.Struct, frozen=True):
    data: list[_Scored]
    usage: _Usage = _Usage()


class _EchoedReply(msgspec.Struct, frozen=True):
    data: list[_Echoed] = msgspec.field(name="choices")
    usage: _Usage = _Usage()


AnyReply = TypeVar("AnyReply", _PooledReply, _ClassifiedReply, _ScoredReply, _EchoedReply)


class TokenLogprob(NamedTuple):
    """Where in a text a token begins, in characters, and how likely it was there, in nats; None of the first one."""

    offset: int
    logprob: float | None


class PoolingClient:
    """One vLLM server started with `--runner pooling`; `token_logprobs` wants one that generates.

    Args:
        name: what errors call it.
        url: its address, with or without `/v1`.
        model: the name it serves the model under.
        api_key: sent as a bearer token.
        connect_timeout_s: for a connection.
        total_timeout_s: for one call.
        max_connections: calls in flight; more wait.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        model: str,
        api_key: str | None = None,
        connect_timeout_s: float = 2.0,
        total_timeout_s: float = 60.0,
        max_connections: int = 128,
    ) -> None:
        self.name = name
        self.url = url.rstrip("/").removesuffix("/v1")
        self.model = model
        self._total_timeout_s = total_timeout_s
        self._client = HttpClient(
            self.url,
            headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
            connect_timeout_s=connect_timeout_s,
            idle_timeout_s=total_timeout_s,
            keepalive_s=KEEPALIVE_S,
            max_exchanges=max_connections,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def token_classes(self, prompt: str, book: Booking) -> list[list[float]]:
        """The class probabilities at every token that the model's pooler returns: all, or those behind steps.

        Raises:
            UpstreamError: the server refused, failed or fell silent.
        """
        body = {"task": "token_classify", "input": prompt, "add_special_tokens": False}
        return (await self._ask("/pooling", body, _PooledReply, book)).data[0].data

    async def classes(self, messages: list[dict[str, Any]], book: Booking) -> list[float]:
        """The class probabilities of a conversation; errors as above."""
        return (await self._ask("/classify", {"messages": messages}, _ClassifiedReply, book)).data[0].probs

    async def relevance(self, first: str, second: str, book: Booking) -> float:
        """The score of a pair of texts; errors as above."""
        return (await self._ask("/score", {"text_1": first, "text_2": second}, _ScoredReply, book)).data[0].score

    async def token_logprobs(self, prompt: str, book: Booking) -> list[TokenLogprob]:
        """The log-probability of every token of a text under a model that generates, which here writes none; errors as above."""
        body = {"prompt": prompt, "echo": True, "logprobs": 0, "max_tokens": 0, "temperature": 0.0, "add_special_tokens": False}
        found = (await self._ask("/v1/completions", body, _EchoedReply, book)).data[0].logprobs
        return [TokenLogprob(*each) for each in zip(found.text_offset, found.token_logprobs, strict=False)]

    async def close(self) -> None:
        """Release connections."""
        self._client.close()

    async def _ask(self, path: str, body: dict[str, Any], kind: type[AnyReply], book: Booking) -> AnyReply:
        started_s = time.perf_counter()
        ending, sent = _Ending("cancelled", "the caller gave up"), Sent()
        try:
            reply = self._decoded(await self._post(path, {"model": self.model, **body}, sent), path, kind)
            ending = _Ending("ok", prompt_tokens=reply.usage.prompt_tokens)
            return reply
        except UpstreamError as error:
            ending = _Ending("failed", str(error))
            raise
        finally:
            if sent.so_far:
                book.book(ending.attempt(self.model, time.perf_counter() - started_s))

    async def _post(self, path: str, body: dict[str, Any], sent: Sent) -> bytes:
        until = asyncio.get_running_loop().time() + self._total_timeout_s
        with TransportErrors(self.name, self.url):
            async with self._client.exchange("POST", path, body=msgspec.json.encode(body), until=until, sent=sent) as answer:
                if answer.status != 200:
                    raise await refusal(self.name, answer)
                return await answer.read_all()

    def _decoded(self, content: bytes, path: str, kind: type[AnyReply]) -> AnyReply:
        try:
            reply = msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UpstreamError(f"{self.name} answered {path} with something else ({error})", backend=self.name) from error
        if not reply.data:
            raise UpstreamError(f"{self.name} answered {path} without a result", backend=self.name)
        return reply


class _Ending(NamedTuple):
    """How a call ended."""

    status: AttemptStatus
    error: str | None = None
    prompt_tokens: int = 0

    def attempt(self, model: str, latency_s: float) -> Attempt:
        """As it is booked; what a call that failed has read is not known."""
        return Attempt(
            model=model,
            kind="verifier",
            status=self.status,
            ledger=Ledger(calls=1, prompt=self.prompt_tokens),
            latency_s=latency_s,
            estimated=self.status != "ok",
            error=self.error,
        )
