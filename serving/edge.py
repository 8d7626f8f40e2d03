"""What every request passes on its way in and out: a place to be served in, a bound on its body's time, its trace, its log line.

Plain ASGI around the application. A place is taken once the body is in, so that a slow sender holds none, and given back
when the last byte of the answer has been sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rheostat.data.errors import RequestError
from rheostat.serving import context
from rheostat.serving.admission import Admission
from rheostat.serving.context import RequestContext
from rheostat.serving.presence import Presence, presence_of
from rheostat.serving.request_log import Log
from rheostat.serving.tracing import trace_of

SERVED = ("/v1/", "/tokenize", "/detokenize")  # beginnings of paths; the others are for probes and people
MAX_PATH = 100
CLIENT_CLOSED = 499
FAILED = 500


class Edge:
    """The application as it is served.

    Args:
        app: what answers.
        admission: gives places to requests under the paths in `SERVED`.
        log: gets a line for each of them.
        body_timeout_s: from a request's head to the end of its body.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission, log: Log, body_timeout_s: float) -> None:
        self._app = app
        self._admission = admission
        self._log = log
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http" or not scope["path"].startswith(SERVED):
            await self._app(scope, receive, send)
            return
        request = RequestContext(trace_of(scope["headers"]), time.monotonic())
        context.enter(request)
        passage = _Passage(receive, send, self._admission, presence_of(scope), request.arrived_s + self._body_timeout_s)
        try:
            await self._app(scope, passage.receive, passage.send)
        except Exception:  # whatever it is, the exchange answers for it
            passage.fail()
            raise
        finally:
            passage.end()
            self._log.write(_line(scope, request, passage.status))


class _Passage:
    """One request's messages, in and out."""

    def __init__(self, receive: Receive, send: Send, admission: Admission, client: Presence, body_by_s: float) -> None:
        self.status = CLIENT_CLOSED
        self._receive = receive
        self._send = send
        self._admission = admission
        self._client = client
        self._body_by_s = body_by_s
        self._is_in = False
        self._has_place = False

    async def receive(self) -> Message:
        """The next message; with the end of the body comes a place to be served in.

        Raises:
            RequestError: 408 for a body that takes too long, 503 where no place is to be had.
        """
        if self._is_in:
            return await self._receive()
        message = await (self._receive() if self._client.has_sent_all else self._body_part())
        if not message.get("more_body", False):
            self._is_in = True
            if message["type"] == "http.request":
                await self._admission.enter()
                self._has_place = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on, noting the status."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        return self._send(message)

    def fail(self) -> None:
        """Note that the application came to no answer, unless it had begun one."""
        if self.status == CLIENT_CLOSED:
            self.status = FAILED

    def end(self) -> None:
        """Give the place back."""
        if self._has_place:
            self._admission.leave()

    async def _body_part(self) -> Message:
        guard = asyncio.timeout(max(0.0, self._body_by_s - time.monotonic()))
        try:
            async with guard:
                return await self._receive()
        except TimeoutError:
            self._is_in = True
            raise RequestError("the body did not come in time: send it faster", param="body", status=408, code="body_timeout") from None


def _line(scope: Scope, request: RequestContext, status: int) -> dict[str, object]:
    now_s = time.monotonic()
    return {
        "time": round(time.time(), 3),
        "method": scope["method"],
        "path": scope["path"][:MAX_PATH],
        "status": status,
        "duration_s": round(now_s - request.arrived_s, 6),
        "trace_id": request.trace.trace_id,
        **request.notes,
    }
