"""The routes of the sidecar. Each reads, checks, hands over to the executor, and answers in OpenAI's shapes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rheostat.data.errors import RequestError, RheostatError
from rheostat.data.schema import new_id
from rheostat.serving import targets
from rheostat.serving.admitted import Admitted
from rheostat.serving.auth import Keys, Principal
from rheostat.serving.completions import TextStream, parse_completion, text_completion
from rheostat.serving.config import Config
from rheostat.serving.context import note
from rheostat.serving.dialect import TranslatingSink
from rheostat.serving.edge import CLIENT_CLOSED, FAILED
from rheostat.serving.errors import wire_error
from rheostat.serving.executor import Executor
from rheostat.serving.feedback import Judged, parse_feedback, reward_of
from rheostat.serving.http import (
    AsgiSink,
    Counted,
    EventStream,
    JsonBytes,
    answer_to,
    error_response,
    header_values,
    json_response,
    read_body,
)
from rheostat.serving.limits import Allowance
from rheostat.serving.metrics import Metrics
from rheostat.serving.openapi import describe
from rheostat.serving.passthrough import Call, Forwarder, parse_detokenize, parse_embeddings, parse_tokenize
from rheostat.serving.plain import PlainRequests
from rheostat.serving.presence import ClientGone, presence_of
from rheostat.serving.rate_headers import rate_headers
from rheostat.serving.recorder import Recorder
from rheostat.serving.response_stream import ResponseStream
from rheostat.serving.responses import parse_response, response
from rheostat.serving.scan import scan
from rheostat.serving.shapes import ChatCompletion, UsageReport
from rheostat.serving.stream import Sink
from rheostat.serving.usage import Finished, days_asked, usage_by_day
from rheostat.serving.wire import Chat, Limits, parse_chat

DECISION_HEADER = "x-rheostat-decision"

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
Status = Callable[[], dict[str, Any]]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


@dataclass(kw_only=True)
class Services:
    """What the routes work with, put together once by the server."""

    config: Config
    executor: Executor
    forwarder: Forwarder
    recorder: Recorder
    metrics: Metrics
    status: Status
    finished: Finished
    keys: Keys = field(init=False)
    limits: Limits = field(init=False)
    started_s: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.keys = Keys(self.config)
        self.limits = _limits(self.config)

    def apply(self, config: Config) -> None:
        """Serve under a changed configuration from the next request on."""
        self.config = config
        self.keys.replace(config)
        self.limits = _limits(config)
        self.executor.apply(config)


def _limits(config: Config) -> Limits:
    """What the wire may let through."""
    return Limits(max_depth=config.server.max_depth, max_tokens=config.server.max_tokens)


def build_app(services: Services, *, lifespan: Lifespan | None = None) -> Starlette:
    """The ASGI application of the sidecar."""
    routes = Routes(services)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", routes.guarded("chat", routes.chat), methods=["POST"]),
            Route("/v1/completions", routes.guarded("completions", routes.completions), methods=["POST"]),
            Route("/v1/responses", routes.guarded("responses", routes.responses), methods=["POST"]),
            Route("/v1/embeddings", routes.guarded("embeddings", routes.embeddings), methods=["POST"]),
            Route("/tokenize", routes.guarded("tokenize", routes.tokenize), methods=["POST"]),
            Route("/detokenize", routes.guarded("detokenize", routes.detokenize), methods=["POST"]),
            Route("/v1/usage", routes.guarded("usage", routes.usage), methods=["GET"]),
            Route("/openapi.json", routes.openapi, methods=["GET"]),
            Route("/v1/decide", routes.guarded("decide", routes.decide), methods=["POST"]),
            Route("/v1/feedback", routes.guarded("feedback", routes.feedback), methods=["POST"]),
            Route("/v1/models", routes.guarded("models", routes.models), methods=["GET"]),
            Route("/v1/models/{model:path}", routes.guarded("models", routes.model), methods=["GET"]),
            Route("/healthz", routes.healthz, methods=["GET"]),
            Route("/readyz", routes.readyz, methods=["GET"]),
            Route("/metrics", routes.metrics, methods=["GET"]),
        ],
        middleware=[Middleware(PlainRequests)],
        exception_handlers={HTTPException: on_http_exception},
        lifespan=lifespan,
    )


class Routes:
    """The endpoints, as methods over the services."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def guarded(self, name: str, endpoint: Endpoint) -> Endpoint:
        """An endpoint whose errors become answers, and that is counted."""

        async def serve(request: Request) -> Response:
            on_answered = partial(self._services.metrics.answered, name)
            try:
                return Counted(await self._answer(request, endpoint), on_answered)
            except Exception:  # whatever it is, the exchange answers for it
                on_answered(FAILED)
                raise

        return serve

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        principal, chat = await self._read(request, parse_chat)
        return await self._served(request, principal, chat, whole=lambda completion: completion, translated=lambda sink: sink)

    async def completions(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        principal, chat = await self._read(request, parse_completion)
        return await self._served(
            request, principal, chat, whole=text_completion, translated=lambda sink: TranslatingSink(sink, TextStream())
        )

    async def responses(self, request: Request) -> Response:
        """`POST /v1/responses`."""
        principal, asked = await self._read(request, parse_response)

        def translated(sink: Sink) -> Sink:
            return TranslatingSink(sink, ResponseStream(asked, new_id("r")))

        return await self._served(
            request, principal, asked.chat, whole=lambda completion: response(completion, asked), translated=translated
        )

    async def decide(self, request: Request) -> Response:
        """`POST /v1/decide`: what would be done, and why; nothing is spent."""
        principal, chat = await self._read(request, parse_chat)
        executor = self._services.executor
        with Entered(principal.allowance):
            return json_response(await presence_of(request.scope).during(executor.dry_run(executor.admit(chat, principal))))

    async def feedback(self, request: Request) -> Response:
        """`POST /v1/feedback`: a judgement on an earlier answer of the same tenant."""
        tenant = self._principal(request).tenant
        feedback = parse_feedback(await self._body(request))
        recorder = self._services.recorder
        known = recorder.recent(feedback.decision_id) or await asyncio.to_thread(recorder.stored, feedback.decision_id)
        if known is None or known.tenant != tenant:
            raise RequestError(
                f"decision_id: {feedback.decision_id!r} is not known", param="decision_id", status=404, code="decision_not_found"
            )
        reward = reward_of(feedback, known.answer)
        recorder.rewarded(feedback.decision_id, reward, feedback.source)
        return json_response(Judged(decision_id=feedback.decision_id, reward=reward, source=feedback.source))

    async def embeddings(self, request: Request) -> Response:
        """`POST /v1/embeddings`: passed on to the engine."""
        return await self._forwarded(request, parse_embeddings)

    async def tokenize(self, request: Request) -> Response:
        """`POST /tokenize`: passed on to the engine."""
        return await self._forwarded(request, parse_tokenize)

    async def detokenize(self, request: Request) -> Response:
        """`POST /detokenize`: passed on to the engine."""
        return await self._forwarded(request, parse_detokenize)

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`: the names that the key may use."""
        principal, services = self._principal(request), self._services
        return json_response(targets.listing(services.config, services.started_s, may_name=principal.may_ask))

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/NAME`: one of them."""
        principal, name = self._principal(request), request.path_params["model"]
        principal.check(targets.resolve(name, self._services.config, may_name=principal.may_ask), forced=False)
        return json_response(targets.told(name, self._services.started_s))

    async def usage(self, request: Request) -> Response:
        """`GET /v1/usage`: what the tenant of the key used, by day."""
        tenant = self._principal(request).tenant
        days = days_asked(request.query_params)
        rows = await asyncio.to_thread(usage_by_day, self._services.finished, days=days, tenant=tenant)
        return json_response(UsageReport(data=rows))

    async def openapi(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /openapi.json`: this API, described."""
        return json_response(describe())

    async def healthz(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /healthz`: the process answers."""
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /readyz`: whether requests can be served, and the state of everything they need."""
        status = self._services.status()
        return json_response(status, status=200 if status["ready"] else 503)

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /metrics`: Prometheus text."""
        self._services.status()
        return Response(self._services.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _answer(self, request: Request, endpoint: Endpoint) -> Response:
        try:
            return await endpoint(request)
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED)
        except RheostatError as error:
            return error_response(answer_to(error))

    async def _served(
        self,
        request: Request,
        principal: Principal,
        chat: Chat,
        *,
        whole: Callable[[ChatCompletion], msgspec.Struct],
        translated: Callable[[Sink], Sink],
    ) -> Response:
        """An answer of the executor, as a stream where one was asked for, in the words of one API."""
        executor = self._services.executor
        admitted = executor.admit(chat, principal)
        if chat.stream:
            return EventStream(lambda sink: self._stream(admitted, sink, translated(sink)))
        with Entered(principal.allowance):
            completion = await presence_of(request.scope).during(executor.complete(admitted))
        headers = {DECISION_HEADER: completion.rheostat.decision_id, **rate_headers(principal.allowance)}
        return json_response(whole(completion), headers=headers)

    async def _stream(self, admitted: Admitted, sink: AsgiSink, translated: Sink) -> None:
        allowance = admitted.principal.allowance

        def on_decision(decision_id: str) -> None:
            sink.headers |= {DECISION_HEADER: decision_id, **rate_headers(allowance)}

        with Entered(allowance):
            await self._services.executor.stream(admitted, translated, on_decision)

    async def _forwarded(self, request: Request, parse: Callable[..., Call]) -> Response:
        principal = self._principal(request)
        call = parse(await self._body(request), limits=self._services.limits)
        with Entered(principal.allowance):
            body = await presence_of(request.scope).during(self._services.forwarder.forward(call, principal))
        return JsonBytes(body, headers=rate_headers(principal.allowance))

    async def _read(self, request: Request, parse: Callable[..., T]) -> tuple[Principal, T]:
        """Whose request it is, and the request, checked; a caller without a key learns nothing of what was wrong with it."""
        principal = self._principal(request)
        return principal, parse(await self._body(request), request.scope["headers"], limits=self._services.limits)

    def _principal(self, request: Request) -> Principal:
        principal = self._services.keys.principal(header_values(request, b"authorization"))
        note(key=principal.name, tenant=principal.tenant)
        return principal

    async def _body(self, request: Request) -> bytes:
        body = await read_body(request, max_bytes=self._services.config.server.max_body_bytes)
        await scan(body, max_depth=self._services.limits.max_depth)
        return body


class Entered:
    """One request among those of a key."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def __enter__(self) -> None:
        self._allowance.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._allowance.leave()


async def on_http_exception(request: Request, error: Exception) -> Response:
    """The answer to a path or a method that is not served."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    method, path = request.method, request.url.path[:100]
    message = {404: f"{path} is not served here", 405: f"{path} does not take {method}"}.get(status, "the request failed")
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return error_response(wire_error(status, message, param="path" if status == 404 else "method", headers=headers))
