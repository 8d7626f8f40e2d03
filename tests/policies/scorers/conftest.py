"""A reward server that is made up: it answers as vLLM's pooling endpoints do, or goes wrong on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rheostat.data.schema import Attempt
from rheostat.policies.scorers.pooling import PoolingClient


class RewardServer:
    """Gives what `reply` says for a path and a body; keeps the bodies and headers."""

    def __init__(self, reply: Callable[[str, dict[str, Any]], Any]) -> None:
        self.reply = reply
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        app = web.Application()
        for path in ("/pooling", "/classify", "/score", "/v1/completions"):
            app.router.add_post(path, self._answer)
        self.server = TestServer(app)

    async def _answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        given = self.reply(request.path, self.bodies[-1])
        if isinstance(given, int):
            return web.json_response({"error": {"message": "too long"}}, status=given)
        if isinstance(given, str):
            return web.Response(text=given)
        what = "choices" if request.path == "/v1/completions" else "data"
        return web.json_response({what: given, "usage": {"prompt_tokens": 7}})


class Booked:
    """A call that only books."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    def book(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    async def __call__(self, request, kind="completion"):
        raise AssertionError("a reward model generates nothing")


@pytest.fixture
def booked() -> Booked:
    return Booked()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Starts a server that replies as told, and gives it with a client of it."""
    opened: list[Any] = []

    async def start(reply: Callable[[str, dict[str, Any]], Any]) -> tuple[RewardServer, PoolingClient]:
        server = RewardServer(reply)
        await server.server.start_server()
        client = PoolingClient("reward", str(server.server.make_url("")), model="prm")
        opened.extend([client.close, server.server.close])
        return server, client

    yield start
    for close in opened:
        await close()
