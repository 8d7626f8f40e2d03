"""The routes of the sidecar. Each reads, checks, hands over to the executor, and answers in OpenAI's shapes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rheostat.data.answers import same
from rheostat.data.errors import RequestError, RheostatError
from rheostat.data.schema import AnswerKind
from rheostat.serving import targets
from rheostat.serving.auth import Keys
from rheostat.serving.config import Config
from rheostat.serving.errors import of_error, wire_error
from rheostat.serving.executor import Admitted, Executor
from rheostat.serving.http import AsgiSink, ClientGone, EventStream, error_response, json_response, read_body, while_connected
from rheostat.serving.metrics import Metrics
from rheostat.serving.recorder import Known, Recorder
from rheostat.serving.wire import Feedback, Limits, parse_chat, parse_feedback

CLIENT_CLOSED = 499
DECISION_HEADER = "x-rheostat-decision"
KINDS: tuple[AnswerKind, ...] = ("number", "choice", "yesno", "text")

Endpoint = Callable[[Request], Awaitable[Response]]
Status = Callable[[], dict[str, Any]]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


@dataclass(kw_only=True)
class Services:
    """What the routes work with, put together once by the server."""

    config: Config
    executor: Executor
    recorder: Recorder
    metrics: Metrics
    status: Status
    keys: Keys = field(init=False)
    started_s: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.keys = Keys(self.config.key)

    def apply(self, config: Config) -> None:
        """Serve under a changed configuration from the next request on."""
        self.config = config
        self.keys = Keys(config.key)
        self.executor.apply(config)

    @property
    def limits(self) -> Limits:
        """What the wire may let through."""
        return Limits(max_depth=self.config.server.max_depth, max_tokens=self.config.server.max_tokens)


def build_app(services: Services, *, lifespan: Lifespan | None = None) -> Starlette:
    """The ASGI application of the sidecar."""
    routes = Routes(services)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", routes.guarded("chat", routes.chat), methods=["POST"]),
            Route("/v1/decide", routes.guarded("decide", routes.decide), methods=["POST"]),
            Route("/v1/feedback", routes.guarded("feedback", routes.feedback), methods=["POST"]),
            Route("/v1/models", routes.guarded("models", routes.models), methods=["GET"]),
            Route("/healthz", routes.healthz, methods=["GET"]),
            Route("/readyz", routes.readyz, methods=["GET"]),
            Route("/metrics", routes.metrics, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _on_http_exception},
        lifespan=lifespan,
    )


class Routes:
    """The endpoints, as methods over the services."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def guarded(self, name: str, endpoint: Endpoint) -> Endpoint:
        """An endpoint whose errors become answers, and that is counted."""

        async def serve(request: Request) -> Response:
            response = await self._answer(request, endpoint)
            self._services.metrics.requests.labels(name, str(response.status_code)).inc()
            return response

        return serve

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        admitted = await self._admitted(request)
        executor = self._services.executor
        if admitted.chat.stream:
            return EventStream(lambda sink: self._stream(admitted, sink))
        completion = await while_connected(request.receive, executor.complete(admitted))
        return json_response(completion, headers={DECISION_HEADER: completion["rheostat"]["decision_id"]})

    async def decide(self, request: Request) -> Response:
        """`POST /v1/decide`: what would be done, and why; nothing is spent."""
        return json_response(await self._services.executor.dry_run(await self._admitted(request)))

    async def feedback(self, request: Request) -> Response:
        """`POST /v1/feedback`: a judgement on an earlier answer of the same tenant."""
        tenant = self._tenant(request)
        feedback = parse_feedback(await self._body(request))
        recorder = self._services.recorder
        known = recorder.recent(feedback.decision_id) or await asyncio.to_thread(recorder.stored, feedback.decision_id)
        if known is None or known.tenant != tenant:
            raise RequestError(
                f"decision_id: {feedback.decision_id!r} is not known", param="decision_id", status=404, code="decision_not_found"
            )
        reward = _reward(feedback, known)
        recorder.rewarded(feedback.decision_id, reward, feedback.source)
        return json_response({"decision_id": feedback.decision_id, "reward": reward, "source": feedback.source})

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        self._tenant(request)
        return json_response(targets.listing(self._services.config, self._services.started_s))

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
            return error_response(of_error(error))

    async def _stream(self, admitted: Admitted, sink: AsgiSink) -> None:
        def on_decision(decision_id: str) -> None:
            sink.headers[DECISION_HEADER] = decision_id

        await self._services.executor.stream(admitted, sink, on_decision)

    async def _admitted(self, request: Request) -> Admitted:
        tenant = self._tenant(request)
        chat = parse_chat(await self._body(request), request.headers.raw, limits=self._services.limits)
        return self._services.executor.admit(chat, tenant)

    def _tenant(self, request: Request) -> str:
        return self._services.keys.tenant(request.headers.getlist("authorization"))

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, max_bytes=self._services.config.server.max_body_bytes)


def _reward(feedback: Feedback, known: Known) -> float:
    if feedback.reward is not None:
        return feedback.reward
    if feedback.label is not None:
        return 1.0 if feedback.label == "correct" else 0.0
    if known.answer is None:
        raise RequestError(
            "correction: the answer was not kept (see store_prompts) or not parsed: send a reward or a label", param="correction"
        )
    return float(any(same(known.answer, feedback.correction or "", kind) for kind in KINDS))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    method, path = request.method, request.url.path[:100]
    message = {404: f"{path} is not served here", 405: f"{path} does not take {method}"}.get(status, "the request failed")
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return error_response(wire_error(status, message, param="path" if status == 404 else "method", headers=headers))
