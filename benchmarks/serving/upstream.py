"""A fake model server that costs next to nothing: bare HTTP/1.1 on uvloop, every answer made beforehand.

    python benchmarks/serving/upstream.py --port 9000

Answers are short and come at once, in tokens where a stream is asked for. A request with the word `slowly` in it gets a long
stream at the pace of an engine, whose chunks carry when they were sent, in ns of the monotonic clock, which all processes of
a machine share. Imports nothing of the project, so that it starts at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from typing import cast

import uvloop

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
STREAM = re.compile(rb'"stream": *true')
SLOWLY = b"slowly"
CHUNKS, CHUNK_S = 40, 0.02  # of a slow answer: 50 tokens a second
TOKENS = ("The", " answer", " is", " ", "5", ".")
USAGE = {"prompt_tokens": 1000, "completion_tokens": len(TOKENS), "total_tokens": 1000 + len(TOKENS)}
KNOWN = {"id": "chatcmpl-1", "created": 1, "model": "fake"}


def content_length(head: bytes) -> int:
    """The length of the body that follows a head, in bytes; 0 where it does not say."""
    found = LENGTH.search(head)
    return int(found[1]) if found else 0


def whole(body: bytes, kind: str = "application/json") -> bytes:
    """A whole answer with this body."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    """One chunk of an answer without a length."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(**fields: object) -> bytes:
    """One chunk with one server-sent event."""
    return chunk(b"data: " + json.dumps({**KNOWN, "object": "chat.completion.chunk", **fields}).encode() + b"\n\n")


def delta(content: str, finish: str | None = None) -> bytes:
    """The event of one token."""
    return event(choices=[{"index": 0, "delta": {"content": content}, "finish_reason": finish}])


MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "".join(TOKENS)}, "finish_reason": "stop"}
ANSWER = whole(json.dumps({**KNOWN, "object": "chat.completion", "choices": [MESSAGE], "usage": USAGE}).encode())
MODELS = whole(json.dumps({"object": "list", "data": [{"id": "fake", "object": "model"}]}).encode())
EMPTY = whole(b"", "text/plain")
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_END = delta("", "stop") + event(choices=[], usage=USAGE) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
SHORT_STREAM = STREAM_HEAD + b"".join(map(delta, TOKENS)) + STREAM_END


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._streaming: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what is still being streamed."""
        del exc
        for task in self._streaming:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            size = end + 4 + content_length(self._buffer[:end])
            if len(self._buffer) < size:
                return
            request, self._buffer = self._buffer[:size], self._buffer[size:]
            self.answer(request)

    def answer(self, request: bytes) -> None:
        """Write the answer of one request, or begin to."""
        if not request.startswith(b"POST"):
            self.transport.write(MODELS if request.startswith(b"GET /v1/models") else EMPTY)
        elif not STREAM.search(request):
            self.transport.write(ANSWER)
        elif SLOWLY not in request:
            self.transport.write(SHORT_STREAM)
        else:
            task = asyncio.create_task(self._stream())
            self._streaming.add(task)
            task.add_done_callback(self._streaming.discard)

    async def _stream(self) -> None:
        self.transport.write(STREAM_HEAD)
        for _ in range(CHUNKS):
            await asyncio.sleep(CHUNK_S)
            self.transport.write(delta(f" t={time.monotonic_ns()}"))
        self.transport.write(STREAM_END)


async def serve(port: int) -> None:
    """Listen on loopback until cancelled."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
