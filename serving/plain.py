"""Requests with one reading: what a server in front might have understood differently is refused, and its connection closed.

The parser (llhttp, strict) refuses nearly all of it; this is the rest, and the paths.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from rheostat.serving.errors import WireError, wire_error
from rheostat.serving.http import error_response

SHOWN = 100
VERSIONS = ("1.0", "1.1")
MODEL = b"/v1/models/"
CLOSE = {"connection": "close"}

Headers = Iterable[tuple[bytes, bytes]]


class PlainRequests:
    """Lets plain requests through to the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or say what is wrong with it."""
        wrong = _wrong(scope) if scope["type"] == "http" else None
        await (self._app if wrong is None else error_response(wrong))(scope, receive, send)


def _wrong(scope: Scope) -> WireError | None:
    if scope["http_version"] not in VERSIONS:
        return wire_error(400, "this is no HTTP/1.1 request", param="protocol", headers=CLOSE)
    header = ambiguous_header(scope["headers"])
    if header is not None:
        return wire_error(400, f"{header}: is not served: send a plain HTTP/1.1 request", param=header, headers=CLOSE)
    if not is_plain_path(scope["raw_path"]):
        return wire_error(404, f"{scope['path'][:SHOWN]} is not served here", param="path")
    return None


def ambiguous_header(headers: Headers) -> str | None:
    """The header that leaves open where the body ends: an encoding besides chunked, or the offer of another protocol."""
    for name, value in headers:
        if name == b"upgrade" or (name == b"transfer-encoding" and value.strip().lower() != b"chunked"):
            return name.decode()
    return None


def is_plain_path(raw_path: bytes) -> bool:
    """Whether a path has one reading: without escapes, doubled slashes, dots or parameters.

    Every path served here is plain ASCII, so nothing is lost; and an access rule of a proxy on `/v1/usage` cannot be
    passed by with `/v1/%75sage`. Only the name of a model may have escapes, as clients write its slashes: whatever they
    stand for, it is looked up among names and leads to no other path.
    """
    parts = raw_path.split(b"/")
    marks = b";\\ " if raw_path.startswith(MODEL) else b"%;\\ "
    return raw_path.startswith(b"/") and not any(mark in raw_path for mark in marks) and not {b"", b".", b".."} & set(parts[1:])
