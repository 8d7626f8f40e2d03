"""The edge between ASGI and the executor: bounded bodies, clients that leave, answers that are whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rheostat.data.errors import RequestError, RheostatError
from rheostat.serving.answer import event
from rheostat.serving.context import note
from rheostat.serving.edge import CLIENT_CLOSED
from rheostat.serving.errors import WireError, of_error
from rheostat.serving.presence import ClientGone, presence_of

NO_HEADERS: Mapping[str, str] = {}
DRAINED_BYTES = 64 * 1024 * 1024
DRAIN_S = 5.0
STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The request's body.

    Raises:
        RequestError: 413 for a body over the bound, 415 for a compressed one (its size cannot be bounded before).
        ClientGone: the client left while sending.
    """
    encoding = header_values(request, b"content-encoding")
    if encoding not in ([], ["identity"]):
        raise RequestError(
            f"content-encoding {encoding[0][:40]!r} is not served: send the body as it is", param="content-encoding", status=415
        )
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks.append(message.get("body", b""))
        size, more = size + len(chunks[-1]), message.get("more_body", False)
        if size > max_bytes:
            await _drain(request, size)
            raise RequestError(f"the body is larger than {max_bytes} bytes", param="body", status=413, code="body_too_large")
    return b"".join(chunks)


def header_values(request: Request, name: bytes) -> list[str]:
    """All values of a header, by its name in lower case."""
    return [value.decode("latin-1") for known, value in request.scope["headers"] if known == name]


async def _drain(request: Request, size: int) -> None:
    """Let a client that is still sending finish, within bounds: cut off, most would never read the answer."""
    try:
        async with asyncio.timeout(DRAIN_S):
            while size <= DRAINED_BYTES:
                message = await request.receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


class JsonBytes(Response):
    """A JSON answer that is encoded already, with headers that are in lower case already, and nothing to do behind it."""

    def __init__(self, body: bytes, status_code: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self.status_code = status_code
        self.body = body
        self.background = None
        self.raw_headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> Response:
    """A value as a JSON answer."""
    return JsonBytes(msgspec.json.encode(value), status, headers)


def error_response(error: WireError) -> Response:
    """An error as a JSON answer; the connection is closed where the body may not have been read to its end."""
    headers = {**error.headers, **({"connection": "close"} if error.status in (408, 413) else {})}
    return JsonBytes(error.body, error.status, headers)


def answer_to(error: RheostatError) -> WireError:
    """The answer to an error. The request's log line has its name only: its message may hold words of the client's."""
    told = of_error(error)
    note(error=told.name)
    return told


class Counted(Response):
    """An answer whose status is told once it is out: before that, a stream's is not known.

    Args:
        answer: what is sent.
        on_answered: told the status, 499 for a client that left before there was one.
    """

    def __init__(self, answer: Response, on_answered: Callable[[int], None]) -> None:
        self._answer = answer
        self._on_answered = on_answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await self._answer(scope, receive, send)
        finally:
            self._on_answered(self._answer.status_code)


class AsgiSink:
    """Sends the head of the answer with the first bytes, so that an early failure can still have a status of its own."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self.headers: dict[str, str] = dict(STREAM_HEADERS)
        self._send = send

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting for a slow reader."""
        if not self.started:
            self.started = True
            headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Close the stream."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(Response):
    """An SSE answer that `produce` writes.

    Before the first byte an error is an ordinary error answer; after it, an error event and never the end mark.
    """

    def __init__(self, produce: Callable[[AsgiSink], Coroutine[Any, Any, None]]) -> None:
        super().__init__()
        self._produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `produce` until it is done or the client is gone."""
        sink = AsgiSink(send)
        try:
            await presence_of(scope).during(self._produce(sink))
        except ClientGone:
            if not sink.started:
                self.status_code = CLIENT_CLOSED
            return
        except RheostatError as error:
            told = answer_to(error)
            if not sink.started:
                self.status_code = told.status
                await error_response(told)(scope, receive, send)
                return
            # The empty line ends an event of which only some lines came.
            await sink.write(b"\n" + event(msgspec.Raw(told.body)))
        await sink.end()
