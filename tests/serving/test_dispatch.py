"""The short way serves what the router serves, and leaves to it whatever it might refuse."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rheostat.serving.dispatch import Dispatch
from rheostat.serving.plain import PlainRequests


class Counted:
    """Counts what takes the long way."""

    n = 0

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        Counted.n += 1
        await self.app(scope, receive, send)


async def hello(request):
    return PlainTextResponse(f"hello {request.method}")


def scope_of(path="/hello", method="POST", **fields):
    defaults = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    return defaults | fields


async def asked(scope):
    """The status, and whether it came the long way."""
    Counted.n = 0
    app = Starlette(routes=[Route("/hello", hello, methods=["POST"])], middleware=[Middleware(Counted), Middleware(PlainRequests)])
    sent = []

    async def send(message):
        sent.append(message)

    await Dispatch(app)(scope, None, send)
    return sent[0]["status"], Counted.n > 0


async def test_a_plain_request_for_a_route_takes_the_short_way():
    assert await asked(scope_of()) == (200, False)


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (scope_of(method="GET"), 405),
        (scope_of(path="/other"), 404),
        (scope_of(raw_path=b"/h%65llo"), 404),
        (scope_of(raw_path=b"//hello"), 404),
        (scope_of(http_version="2.0"), 400),
        (scope_of(headers=[(b"transfer-encoding", b"chunked, gzip")]), 400),
        (scope_of(headers=[(b"upgrade", b"h2c")]), 400),
    ],
)
async def test_anything_else_is_refused_as_the_router_refuses_it(scope, status):
    assert await asked(scope) == (status, True)
