"""One executor, several wires: it speaks chat completions, and a translator turns its events into another API's.

Knows the chunks of a chat completion, and no endpoint.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from rheostat.policies.sse import SseParser
from rheostat.serving.stream import Sink

DONE = b"[DONE]"


class Translator(Protocol):
    """Turns the chunks of one chat completion into the bytes of another stream."""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """What a chunk becomes; nothing, where it says nothing in the other API."""
        ...

    def end(self) -> bytes:
        """What the end mark becomes."""
        ...


class TranslatingSink:
    """A sink for chat completion events that sends them on in another API's words; comments are for chat clients."""

    def __init__(self, sink: Sink, translator: Translator) -> None:
        self._sink = sink
        self._translator = translator
        self._events = SseParser("the sidecar")

    @property
    def started(self) -> bool:
        """Whether the client was sent anything."""
        return self._sink.started

    async def write(self, data: bytes) -> None:
        """Translate, and send what came of it."""
        if out := b"".join(self._translated(event.data) for event in self._events.feed(data)):
            await self._sink.write(out)

    def _translated(self, data: bytes) -> bytes:
        if data.strip() == DONE:
            return self._translator.end()
        return self._translator.chunk(msgspec.json.decode(data))
