"""The admin listener: usage of all tenants, keys without their hashes, the audit log, and a reload. Bound to loopback.

Everything that changes something is in the audit log before it is answered. A browser on the same machine is no admin:
a request under any other host name is refused, so that a web page cannot rebind its own name to this address.
"""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rheostat.data.errors import RheostatError
from rheostat.serving.app import Services, on_http_exception
from rheostat.serving.audit import Audited
from rheostat.serving.auth import Principal
from rheostat.serving.config import LOOPBACK
from rheostat.serving.errors import of_error, wire_error
from rheostat.serving.http import error_response, json_response
from rheostat.serving.shapes import KeyState, UsageReport
from rheostat.serving.usage import days_asked, usage_by_day


class Admin:
    """The endpoints of the admin listener.

    Args:
        services: of the sidecar.
        audit: where actions are noted.
        reload: looks at the configuration file now; None where there is none.
    """

    def __init__(self, services: Services, *, audit: Audited, reload: Callable[[], None] | None) -> None:
        self._services = services
        self._audit = audit
        self._reload = reload

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/admin/usage", self.usage, methods=["GET"]),
            Route("/admin/keys", self.keys, methods=["GET"]),
            Route("/admin/audit", self.audit, methods=["GET"]),
            Route("/admin/reload", self.reload, methods=["POST"]),
        ]

    async def usage(self, request: Request) -> Response:
        """`GET /admin/usage`: what every tenant used, by day."""
        days, tenant = days_asked(request.query_params), request.query_params.get("tenant")
        rows = await asyncio.to_thread(usage_by_day, self._services.finished, days=days, tenant=tenant)
        return json_response(UsageReport(data=rows))

    async def keys(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /admin/keys`: every key by its name, and what it uses now."""
        return json_response({"object": "list", "data": [_state(principal) for principal in self._services.keys.principals()]})

    async def audit(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /admin/audit`: the last actions, newest first."""
        return json_response({"object": "list", "data": self._audit.last()})

    async def reload(self, request: Request) -> Response:
        """`POST /admin/reload`: look at the configuration file now; what came of it is in `/readyz`."""
        self._audit.write("reload", by=_who(request))
        if self._reload is None:
            return error_response(wire_error(409, "the configuration did not come from a file: there is nothing to reload"))
        self._reload()
        return json_response({"status": "looking"})


class Guard:
    """Lets in who names a loopback host, or the host that is configured, and carries the token where there is one."""

    def __init__(self, app: ASGIApp, *, host: str, token: str | None) -> None:
        self._app = app
        self._hosts = frozenset({*LOOPBACK, host})
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "http":
            headers = Request(scope).headers
            if _name(headers.get("host", "")) not in self._hosts:
                await error_response(wire_error(403, "this host name is not the admin listener's", param="host"))(scope, receive, send)
                return
            if self._token is not None and not _is_bearer(headers.getlist("authorization"), self._token):
                await error_response(wire_error(401, "no valid admin token", param="authorization"))(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Listeners:
    """Two applications behind one server: which one is told by the port a connection came to."""

    def __init__(self, app: ASGIApp, admin: ASGIApp, *, admin_port: int) -> None:
        self._app = app
        self._admin = admin
        self._admin_port = admin_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; the lifespan is the main application's."""
        is_admin = scope["type"] == "http" and scope["server"][1] == self._admin_port
        await (self._admin if is_admin else self._app)(scope, receive, send)


def build_admin(services: Services, *, audit: Audited, reload: Callable[[], None] | None, host: str, token: str | None) -> Guard:
    """The ASGI application of the admin listener."""
    routes = Admin(services, audit=audit, reload=reload).routes()
    handlers = {HTTPException: on_http_exception, RheostatError: _on_error}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), host=host, token=token)


async def _on_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    if not isinstance(error, RheostatError):
        raise error
    return error_response(of_error(error))


def _state(principal: Principal) -> KeyState:
    allowance = principal.allowance
    return KeyState(
        name=principal.name,
        tenant=principal.tenant,
        tiers=list(principal.tiers),
        in_flight=allowance.in_flight,
        requests_left=_finite(allowance.requests.left),
        tokens_left=_finite(allowance.tokens.left),
        usd_left=_finite(allowance.usd.left),
    )


def _finite(left: float) -> float | None:
    return None if math.isinf(left) else left


def _name(host: str) -> str:
    """A Host header without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_bearer(authorization: list[str], token: str) -> bool:
    given = authorization[0] if len(authorization) == 1 else ""
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def _who(request: Request) -> str:
    return f"{request.client.host}:{request.client.port}" if request.client else "unknown"
