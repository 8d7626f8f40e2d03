"""The least proxy there can be on uvicorn and aiohttp: reads a body, sends it on, sends back what comes. A yardstick.

    python benchmarks/serving/bare.py --port 9001 --upstream 9000

What it adds is what this machine takes for a request in and a request out in Python: no keys, no limits, no books, no
decision. Imports nothing of the project.
"""

from __future__ import annotations

import argparse
from typing import Any

import aiohttp
import uvicorn

HELD_BACK = (b"transfer-encoding", b"date", b"server")  # headers that the server writes itself


class BareProxy:
    """An ASGI application in front of one port of this machine."""

    def __init__(self, upstream: int) -> None:
        self._upstream = f"http://127.0.0.1:{upstream}"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send one request on, and its answer back."""
        if scope["type"] != "http":
            return
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        body = self.rewritten(scope, body)
        sent = {"content-type": "application/json"}
        async with self._session.request(scope["method"], self._upstream + scope["path"], data=body, headers=sent) as answer:
            headers = [(name.lower(), value) for name, value in answer.raw_headers if name.lower() not in HELD_BACK]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    def rewritten(self, scope: Any, body: bytes) -> bytes:  # noqa: ARG002
        """What is sent on for a body: the same."""
        return body


def serve(app: Any, port: int) -> None:
    """Serve an application until ended, with as little around it as there can be."""
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="warning", ws="none")


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True)
    given = parser.parse_args()
    serve(BareProxy(given.upstream), given.port)


if __name__ == "__main__":
    main()
