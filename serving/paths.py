"""Which path a request means: the one that was sent, byte for byte. What could be read in two ways is no path here."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from rheostat.serving.errors import wire_error
from rheostat.serving.http import error_response

SHOWN = 100


class PlainPaths:
    """Refuses paths that a proxy in front might have read differently: escapes, doubled slashes, dots, parameters.

    Every path served here is plain ASCII, so nothing is lost; and an access rule of a proxy on `/v1/usage` cannot be
    passed by with `/v1/%75sage`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request with a plain path; another is not found."""
        if scope["type"] == "http" and not is_plain(scope.get("raw_path") or scope["path"].encode()):
            shown = scope["path"][:SHOWN]
            await error_response(wire_error(404, f"{shown} is not served here", param="path"))(scope, receive, send)
            return
        await self._app(scope, receive, send)


def is_plain(raw_path: bytes) -> bool:
    """Whether a path has one reading."""
    parts = raw_path.split(b"/")
    return raw_path.startswith(b"/") and not any(mark in raw_path for mark in b"%;\\ ") and not {b"", b".", b".."} & set(parts[1:])
