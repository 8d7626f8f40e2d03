"""A vLLM server over its OpenAI-compatible HTTP API. Knows one server; routing among several is not its business.

Every call streams, also where the caller wants the whole text: a stream that is cancelled or breaks has told how much
it generated, so nothing is spent unseen. Every call that was sent is booked exactly once, however it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import Attempt, AttemptStatus
from rheostat.policies.base import Booking, Feeding, GenerateRequest, Generation
from rheostat.policies.bodies import THINKING_FIELD, Post, chat, continuation
from rheostat.policies.reply import Reply
from rheostat.policies.scrape import sum_metrics
from rheostat.policies.templates import Templates
from rheostat.policies.transport import KEEPALIVE_S, MAX_ERROR_BYTES, NotSentError, TransportErrors, refusal

ABORT_PATH = "/inference/v1/abort_requests"
SETTLE_S = 0.15  # a cancel is to be through within 0.25 s
EVENT_STREAM = "text/event-stream"
BAD_REQUEST = 400
TOO_LONG = ("max_model_len", "context length")  # what vLLM says of a prompt and a cap that do not fit together


class VllmBackend:
    """One vLLM server.

    Args:
        name: what actions and errors call it.
        url: its address, with or without `/v1`.
        model: the name it serves the model under; None takes the name in the request.
        api_key: sent as a bearer token.
        connect_timeout_s: for a connection; one that fails is tried once more, since nothing was sent.
        idle_timeout_s: between two reads of one answer.
        total_timeout_s: for one call; `GenerateRequest.timeout_s` may be shorter.
        max_connections: calls in flight; more wait.
        more_headers: asked at every call for headers to send along, such as the trace it belongs to.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        connect_timeout_s: float = 2.0,
        idle_timeout_s: float = 60.0,
        total_timeout_s: float = 300.0,
        max_connections: int = 512,
        more_headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.name = name
        self.url = url.rstrip("/").removesuffix("/v1")
        self.model = model
        self._headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s, sock_read=idle_timeout_s)
        self._total_timeout_s = total_timeout_s
        self._max_connections = max_connections
        self._more_headers = more_headers
        self._takes_aborts = True
        self._budgets_thinking = True
        self._templates = Templates(self._ask)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def generate(self, request: GenerateRequest, book: Booking) -> Generation:
        """Run one call; see `base.Backend`. A cap that is too long for the engine's context is cut to what fits."""
        model = self.model or request.model
        sent = await self._templates.fitted(request, model)
        try:
            return await self._generate(sent, book)
        except UpstreamError as error:
            shorter = await self._shorter(sent, model, error)
        return await self._generate(shorter, book)

    async def _generate(self, request: GenerateRequest, book: Booking) -> Generation:
        reply = Reply(request, self.name)
        kept = _Kept(book)
        try:
            async for _ in self._bytes(request, kept, reply):
                pass
        except UpstreamError:
            if kept.attempt is None or not reply.completions:
                raise
        assert kept.attempt is not None
        self._learn_thinking(request, kept.attempt)
        return Generation(completions=reply.completions, attempt=kept.attempt)

    async def stream(self, request: GenerateRequest, book: Booking, *, reply: Feeding | None = None) -> AsyncIterator[bytes]:
        """The bytes of one call as they come, to be passed on verbatim; closing the iterator cancels the call.

        A cap that is too long for the engine's context is cut to what fits. `reply`, when given, is fed alongside, so
        that the caller can read the text and its tokens afterwards.

        Raises:
            UpstreamError: the backend refused, failed or fell silent; before the first byte another may be tried.
        """
        model = self.model or request.model
        sent = await self._templates.fitted(request, model)
        begun = False
        try:
            async with aclosing(self._passed_on(sent, book, reply)) as chunks:
                async for chunk in chunks:
                    begun = True
                    yield chunk
            return
        except UpstreamError as error:
            if begun:
                raise
            shorter = await self._shorter(sent, model, error)
        async with aclosing(self._passed_on(shorter, book, reply)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _passed_on(self, request: GenerateRequest, book: Booking, reply: Feeding | None) -> AsyncGenerator[bytes, None]:
        """The bytes of one call, which `reply` is fed as well."""
        async with aclosing(self._bytes(request, book, Reply(request, self.name))) as chunks:
            async for chunk in chunks:
                if reply is not None:
                    reply.feed(chunk)
                yield chunk

    async def _shorter(self, sent: GenerateRequest, model: str, error: UpstreamError) -> GenerateRequest:
        """The request as it fits, where the engine refused it as too long.

        Raises:
            UpstreamError: `error`, where it is another one or nothing shorter is possible.
        """
        is_too_long = error.status == BAD_REQUEST and any(words in str(error) for words in TOO_LONG)
        shorter = await self._templates.refitted(sent, model) if is_too_long else sent
        if shorter.max_tokens >= sent.max_tokens:
            raise error
        return shorter

    async def models(self) -> list[str]:
        """The names the server serves models under.

        Raises:
            UpstreamError: it does not answer, or not with a list of models.
        """
        try:
            listing = msgspec.json.decode(await self._get("/v1/models"))
            return [str(model["id"]) for model in listing["data"]]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise UpstreamError(f"{self.name} lists no models under {self.url}/v1/models", backend=self.name) from error

    async def forward(self, path: str, fields: Mapping[str, Any]) -> bytes:
        """The body of the answer to a call that generates nothing, such as /v1/embeddings; `path` is never a client's.

        Raises:
            UpstreamError: it refused, failed or fell silent.
        """
        headers = {**self._more_headers(), "Content-Type": "application/json"}
        body = msgspec.json.encode({**fields, "model": self.model or fields["model"]})
        at = asyncio.get_running_loop().time() + self._total_timeout_s
        with self._errors():
            async with asyncio.timeout_at(at):
                async with self._client().post(self.url + path, data=body, headers=headers, allow_redirects=False) as response:
                    if response.status != 200:
                        raise await self._refusal(response, at)
                    return await response.read()

    async def healthy(self) -> bool:
        """Whether the server says it is well; False where it cannot be reached."""
        try:
            await self._get("/health")
        except UpstreamError as error:
            # A server without /health has answered all the same.
            return error.status is not None and error.status < 500
        return True

    async def metrics(self) -> dict[str, float]:
        """The engine's own counters and gauges by name, without `vllm:`, added up over its engines.

        Among them generation_tokens_total, num_requests_running, num_requests_waiting and kv_cache_usage_perc.

        Raises:
            UpstreamError: it does not answer.
        """
        return sum_metrics((await self._get("/metrics")).decode("utf-8", "replace"))

    async def close(self) -> None:
        """Release connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _bytes(self, request: GenerateRequest, book: Booking, reply: Reply) -> AsyncGenerator[bytes, None]:
        """The bytes of one call, fed to `reply`; the call is booked when this ends, whatever ends it."""
        started_s = time.perf_counter()
        ending = _Ending("cancelled", "the caller gave up")
        at = asyncio.get_running_loop().time() + self._limit_s(request)
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._post(await self._prepared(request, at), at)
            while chunk := await self._read(response, at):
                reply.feed(chunk)
                yield chunk
            if not reply.done:
                raise UpstreamError(f"{self.name} ended the stream before it was complete", backend=self.name, retryable=True)
            ending = _Ending("ok", running=False)
        except GeneratorExit:
            ending = _Ending("ok", running=False) if reply.done else ending
            raise
        except UpstreamError as error:
            ending = _Ending.of(error)
            self._refused_thinking(request, error)
            raise
        finally:
            try:
                if response is not None:
                    await self._leave(response, reply, ending)
            finally:
                if ending.sent:
                    latency_s = time.perf_counter() - started_s
                    book.book(reply.attempt(ending.booked, latency_s=latency_s, error=ending.error, refused=ending.refused))

    async def _leave(self, response: aiohttp.ClientResponse, reply: Reply, ending: _Ending) -> None:
        """Give the connection back, or close it, which makes the engine stop; what was generated by then is counted."""
        if ending.booked == "ok":
            response.release()
            return
        try:
            if ending.running:
                await self._settle(response, reply)
            with suppress(aiohttp.ClientError, OSError):
                reply.feed(response.content.read_nowait())
        finally:
            response.close()

    async def _settle(self, response: aiohttp.ClientResponse, reply: Reply) -> None:
        """Have the engine abort the call and read on to its last count.

        A connection that is just closed leaves tokens that the engine counted and nobody saw. Engines that do not
        take an abort (vLLM does with `--enable-scale-out`) are asked once; there the bill ends with what was seen.
        """
        if not self._takes_aborts or reply.call_id is None:
            return
        with suppress(aiohttp.ClientError, OSError):
            async with asyncio.timeout(SETTLE_S):
                async with self._client().post(self.url + ABORT_PATH, json={"request_ids": reply.engine_ids}) as answer:
                    self._takes_aborts = answer.status == 200
                while self._takes_aborts and (chunk := await response.content.readany()):
                    reply.feed(chunk)

    async def _prepared(self, request: GenerateRequest, at: float) -> Post:
        """What to post for a request; one that goes on with a reply is rendered first.

        Raises:
            NotSentError: the engine is known not to budget thinking, or cannot render.
        """
        model = self.model or request.model
        if request.thinking_tokens is not None and not self._budgets_thinking:
            raise NotSentError(f"{self.name} has no budget for thinking", backend=self.name, status=BAD_REQUEST)
        if not request.prefill:
            return chat(request, model)
        with self._errors():
            async with asyncio.timeout_at(at):
                prompt = await self._templates.prompt(request, model)
        return continuation(request, model, prompt)

    async def _ask(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        """What the engine answers where it generates nothing.

        Raises:
            NotSentError: it does not answer, or not with a JSON object.
        """
        headers = {**self._more_headers(), "Content-Type": "application/json"}
        try:
            with self._errors():
                async with asyncio.timeout(self._total_timeout_s):
                    async with self._client().post(self.url + path, data=msgspec.json.encode(fields), headers=headers) as answer:
                        told = msgspec.json.decode(await answer.read(), type=dict[str, Any])
        except (UpstreamError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._cannot_render(path, error) from error
        if "error" in told or "detail" in told:
            raise self._cannot_render(path, told)
        return told

    def _cannot_render(self, path: str, why: object) -> NotSentError:
        what = f"{self.name} does not render prompts: {self.url}{path} says {why}; is it a vLLM server?"
        return NotSentError(what, backend=self.name, retryable=isinstance(why, UpstreamError))

    def _learn_thinking(self, request: GenerateRequest, attempt: Attempt) -> None:
        """An engine that thought for longer than its budget takes the field and ignores it."""
        if request.thinking_tokens is not None and attempt.ledger.reasoning > request.n * request.thinking_tokens:
            self._budgets_thinking = False

    def _refused_thinking(self, request: GenerateRequest, error: UpstreamError) -> None:
        """One refusal is enough: the engine is not asked again."""
        if request.thinking_tokens is not None and error.status == BAD_REQUEST and THINKING_FIELD in str(error):
            self._budgets_thinking = False

    def _limit_s(self, request: GenerateRequest) -> float:
        return self._total_timeout_s if request.timeout_s is None else min(self._total_timeout_s, request.timeout_s)

    async def _post(self, post: Post, at: float) -> aiohttp.ClientResponse:
        """The response whose body is an event stream, its headers read by the loop time `at`."""
        try:
            response = await self._open(post, at)
        except NotSentError:
            response = await self._open(post, at)
        if response.status != 200:
            raise await self._refusal(response, at)
        if response.content_type != EVENT_STREAM:
            response.close()
            what = f"answered with {response.content_type} instead of an event stream"
            raise UpstreamError(f"{self.name} {what}: is {self.url} a vLLM server?", backend=self.name, status=200, retryable=True)
        return response

    async def _open(self, post: Post, at: float) -> aiohttp.ClientResponse:
        headers = {**self._more_headers(), "Content-Type": "application/json", "Accept": EVENT_STREAM}
        with self._errors():
            async with asyncio.timeout_at(at):
                return await self._client().post(self.url + post.path, data=post.body, headers=headers, allow_redirects=False)

    async def _read(self, response: aiohttp.ClientResponse, at: float) -> bytes:
        """The next bytes; none at the end."""
        with self._errors():
            async with asyncio.timeout_at(at):
                return await response.content.readany()

    async def _refusal(self, response: aiohttp.ClientResponse, at: float) -> UpstreamError:
        """The error a response that is not 200 stands for."""
        try:
            with self._errors():
                async with asyncio.timeout_at(at):
                    body = await response.content.read(MAX_ERROR_BYTES)
        except UpstreamError:
            body = b""
        response.close()
        return refusal(self.name, response.status, body, response.headers)

    async def _get(self, path: str) -> bytes:
        with self._errors():
            async with asyncio.timeout(self._total_timeout_s):
                async with self._client().get(self.url + path, allow_redirects=False) as response:
                    if response.status != 200:
                        raise UpstreamError(f"{self.name} answered {response.status} to {path}", backend=self.name, status=response.status)
                    return await response.read()

    def _errors(self) -> TransportErrors:
        return TransportErrors(self.name, self.url)

    def _client(self) -> aiohttp.ClientSession:
        """The session, made where a loop runs."""
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=KEEPALIVE_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout, headers=self._headers)
        return self._session


class _Kept:
    """Books, and keeps what was booked."""

    def __init__(self, book: Booking) -> None:
        self._book = book
        self.attempt: Attempt | None = None

    def book(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self._book.book(attempt)


class _Ending(NamedTuple):
    """How a call ended."""

    booked: AttemptStatus
    error: str | None = None
    sent: bool = True
    status: int | None = None
    running: bool = True

    @classmethod
    def of(cls, error: UpstreamError) -> _Ending:
        """A failure; after a time limit the engine is still at it."""
        late = isinstance(error.__cause__, TimeoutError)
        return cls("failed", str(error), sent=not isinstance(error, NotSentError), status=error.status, running=late)

    @property
    def refused(self) -> bool:
        """Whether the server turned the call down, so that no token was generated."""
        return self.status is not None and 400 <= self.status < 500
