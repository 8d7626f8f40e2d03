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

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import Attempt, AttemptStatus
from rheostat.data.spelling import did_you_mean
from rheostat.policies.aborts import ABORT_PATH, Aborts
from rheostat.policies.base import Booking, GenerateRequest, Generation, Said
from rheostat.policies.bodies import THINKING_FIELD, Post, chat, continuation
from rheostat.policies.http_client import HttpClient, Sent
from rheostat.policies.http_connection import Connection
from rheostat.policies.reply import Reply
from rheostat.policies.scrape import sum_metrics
from rheostat.policies.templates import Templates
from rheostat.policies.transport import KEEPALIVE_S, NotSentError, TransportErrors, refusal

SETTLE_S = 0.15  # a cancel is to be through within 0.25 s
LISTING_S = 2.0  # for the names of models that are there, in an error about one that is not
EVENT_STREAM = "text/event-stream"
JSON_HEADERS = {"Content-Type": "application/json"}
STREAM_HEADERS = {**JSON_HEADERS, "Accept": EVENT_STREAM}
BAD_REQUEST, NOT_FOUND = 400, 404
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
        self._total_timeout_s = total_timeout_s
        self._more_headers = more_headers
        self._client = HttpClient(
            self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            connect_timeout_s=connect_timeout_s,
            idle_timeout_s=idle_timeout_s,
            keepalive_s=KEEPALIVE_S,
            max_exchanges=max_connections,
        )
        self._aborts = Aborts(self._abort)
        self._budgets_thinking = True
        self._templates = Templates(self._ask)
        self._errors = TransportErrors(name, self.url)

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

    async def stream(self, request: GenerateRequest, book: Booking, *, said: Said | None = None) -> AsyncIterator[bytes]:
        """The bytes of one call as they come, to be passed on verbatim; closing the iterator cancels the call.

        A cap that is too long for the engine's context is cut to what fits. `said`, when given, has the samples in the end.

        Raises:
            UpstreamError: the backend refused, failed or fell silent; before the first byte another may be tried.
        """
        model, begun = self.model or request.model, False
        sent = await self._templates.fitted(request, model)
        while True:
            reply = Reply(sent, self.name)
            try:
                async with aclosing(self._bytes(sent, book, reply)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                break
            except UpstreamError as error:
                if begun:
                    raise
                sent = await self._shorter(sent, model, error)
        if said is not None:
            said.completions, said.call_id = reply.completions, reply.call_id

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
        body = msgspec.json.encode({**fields, "model": self.model or fields["model"]})
        with self._errors:
            async with self._client.exchange("POST", path, body=body, headers=self._json_headers(), until=self._latest()) as answer:
                if answer.status != 200:
                    raise await refusal(self.name, answer)
                return await answer.read_all()

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
        self._client.close()

    async def _bytes(self, request: GenerateRequest, book: Booking, reply: Reply) -> AsyncGenerator[bytes, None]:
        """The bytes of one call, fed to `reply`; the call is booked when this ends, whatever ends it."""
        started_s = time.perf_counter()
        ending, sent = _CANCELLED, Sent()
        until = self._latest(request.timeout_s)
        answer: Connection | None = None
        try:
            answer = await self._post(await self._prepared(request, until), self.model or request.model, until, sent)
            with self._errors:
                while chunk := await answer.read():
                    reply.feed(chunk)
                    yield chunk
            if not reply.done:
                raise UpstreamError(f"{self.name} ended the stream before it was complete", backend=self.name, retryable=True)
            ending = _OK
        except GeneratorExit:
            ending = _OK if reply.done else ending
            raise
        except UpstreamError as error:
            ending = _Ending.of(error)
            self._refused_thinking(request, error)
            raise
        finally:
            try:
                if answer is not None:
                    await self._leave(answer, reply, ending)
            finally:
                if sent.so_far:
                    latency_s = time.perf_counter() - started_s
                    book.book(reply.attempt(ending.booked, latency_s=latency_s, error=ending.error, refused=ending.refused))

    async def _leave(self, answer: Connection, reply: Reply, ending: _Ending) -> None:
        """Give the connection back, or close it, which makes the engine stop; what was generated by then is counted."""
        try:
            if ending.booked == "ok":
                return
            if ending.running:
                await self._settle(answer, reply)
            with suppress(OSError):
                reply.feed(answer.read_nowait())
        finally:
            self._client.release(answer)

    async def _settle(self, answer: Connection, reply: Reply) -> None:
        """Have the engine abort the call and read on to its last count.

        A connection that is just closed leaves tokens that the engine counted and nobody saw. Engines that do not
        take an abort (vLLM does with `--enable-scale-out`) are asked once; there the bill ends with what was seen.
        """
        if reply.call_id is None:
            return
        answer.extend(asyncio.get_running_loop().time() + SETTLE_S)
        if not await self._aborts.abort(reply.engine_ids):
            return
        with suppress(OSError):
            while chunk := await answer.read():
                reply.feed(chunk)

    async def _abort(self, body: bytes) -> int:
        until = asyncio.get_running_loop().time() + SETTLE_S
        async with self._client.exchange("POST", ABORT_PATH, body=body, headers=JSON_HEADERS, until=until) as answer:
            return answer.status

    async def _prepared(self, request: GenerateRequest, until: float) -> Post:
        """What to post for a request; one that goes on with a reply is rendered first.

        Raises:
            NotSentError: the engine is known not to budget thinking, or cannot render.
        """
        model = self.model or request.model
        if request.thinking_tokens is not None and not self._budgets_thinking:
            raise NotSentError(f"{self.name} has no budget for thinking", backend=self.name, status=BAD_REQUEST)
        if not request.prefill:
            return chat(request, model)
        with self._errors:
            async with asyncio.timeout_at(until):
                prompt = await self._templates.prompt(request, model)
        return continuation(request, model, prompt)

    async def _ask(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        """What the engine answers where it generates nothing.

        Raises:
            NotSentError: it does not answer, or not with a JSON object.
        """
        body = msgspec.json.encode(fields)
        try:
            with self._errors:
                async with self._client.exchange("POST", path, body=body, headers=self._json_headers(), until=self._latest()) as answer:
                    told = msgspec.json.decode(await answer.read_all(), type=dict[str, Any])
        except (UpstreamError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._cannot_render(path, error) from error
        if "error" in told or "detail" in told:
            raise self._cannot_render(path, told)
        return told

    def _cannot_render(self, path: str, why: object) -> NotSentError:
        told = f"{self.name} does not render prompts"
        what = f"{told}: {self.url}{path} says {why}; is it a vLLM server?"
        return NotSentError(what, backend=self.name, retryable=isinstance(why, UpstreamError), told=told)

    def _learn_thinking(self, request: GenerateRequest, attempt: Attempt) -> None:
        """An engine that thought for longer than its budget takes the field and ignores it."""
        if request.thinking_tokens is not None and attempt.ledger.reasoning > request.n * request.thinking_tokens:
            self._budgets_thinking = False

    def _refused_thinking(self, request: GenerateRequest, error: UpstreamError) -> None:
        """One refusal is enough: the engine is not asked again."""
        if request.thinking_tokens is not None and error.status == BAD_REQUEST and THINKING_FIELD in str(error):
            self._budgets_thinking = False

    def _latest(self, timeout_s: float | None = None) -> float:
        """The time of the loop by which a call that begins now has to be over."""
        limit_s = self._total_timeout_s if timeout_s is None else min(self._total_timeout_s, timeout_s)
        return asyncio.get_running_loop().time() + limit_s

    def _json_headers(self) -> Mapping[str, str]:
        return {**self._more_headers(), **JSON_HEADERS}

    async def _post(self, post: Post, model: str, until: float, sent: Sent) -> Connection:
        """The answer whose body is an event stream, its head read."""
        try:
            answer = await self._open(post, until, sent)
        except NotSentError:
            answer = await self._open(post, until, sent)
        try:
            error = await self._wrong(answer)
        except BaseException:
            self._client.release(answer)
            raise
        if error is None:
            return answer
        self._client.release(answer)  # once, and before anything else is asked: from then on the connection may be another call's
        raise await self._explained(error, model)

    async def _wrong(self, answer: Connection) -> UpstreamError | None:
        """Why an answer is no event stream."""
        if answer.status != 200:
            return await refusal(self.name, answer)
        if answer.content_type != EVENT_STREAM:
            told = f"{self.name} answered with {answer.content_type} instead of an event stream"
            return UpstreamError(f"{told}: is {self.url} a vLLM server?", backend=self.name, status=200, retryable=True, told=told)
        return None

    async def _explained(self, error: UpstreamError, model: str) -> UpstreamError:
        """The error of a refusal; of one for a model that the server does not have, with those that it has."""
        if error.status != NOT_FOUND:
            return error
        try:
            async with asyncio.timeout(LISTING_S):
                known = await self.models()
        except (UpstreamError, TimeoutError):
            return error
        if model in known:
            return error
        told = f"{self.name} has no model {model!r}"
        has = f"{told}: {did_you_mean(model, known)}{self.url} serves {', '.join(known) or 'none'}"
        return UpstreamError(has, backend=self.name, status=error.status, told=told)

    async def _open(self, post: Post, until: float, sent: Sent) -> Connection:
        headers = {**self._more_headers(), **STREAM_HEADERS}
        with self._errors:
            return await self._client.send("POST", post.path, body=post.body, headers=headers, until=until, sent=sent)

    async def _get(self, path: str) -> bytes:
        with self._errors:
            async with self._client.exchange("GET", path, until=self._latest()) as answer:
                if answer.status != 200:
                    raise UpstreamError(f"{self.name} answered {answer.status} to {path}", backend=self.name, status=answer.status)
                return await answer.read_all()


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
    status: int | None = None
    running: bool = True

    @classmethod
    def of(cls, error: UpstreamError) -> _Ending:
        """A failure; after a time limit the engine is still at it."""
        late = isinstance(error.__cause__, TimeoutError)
        return cls("failed", str(error), status=error.status, running=late)

    @property
    def refused(self) -> bool:
        """Whether the server turned the call down, so that no token was generated."""
        return self.status is not None and 400 <= self.status < 500


_CANCELLED = _Ending("cancelled", "the caller gave up")
_OK = _Ending("ok", running=False)
