"""Requests straight to their endpoints, by method and path as they came; what is not as plain goes through the router.

The router and its middlewares take longer than some endpoints. Whatever they could refuse or redirect is left to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rheostat.serving.plain import VERSIONS, ambiguous_header

Endpoint = Callable[[Request], Awaitable[Response]]


class Dispatch:
    """An application, with a short way to its routes."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        routes = [route for route in app.routes if isinstance(route, Route)]
        self._endpoints: dict[tuple[str, bytes], Endpoint] = {
            (method, route.path.encode()): route.endpoint
            for route in routes
            if not route.param_convertors  # what stands in a path is for the router to read
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        endpoint = self._endpoint(scope) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    def _endpoint(self, scope: Scope) -> Endpoint | None:
        if scope["http_version"] not in VERSIONS or ambiguous_header(scope["headers"]) is not None:
            return None
        return self._endpoints.get((scope["method"], scope["raw_path"]))
