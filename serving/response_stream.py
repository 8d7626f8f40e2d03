"""The stream of `/v1/responses`: typed events that open, fill and close one output item after the other.

Event order: OpenAI's API reference for streaming responses. There is no end mark: the last event says how it ended.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from rheostat.serving.responses import Asked, response_usage, status_of, why_incomplete
from rheostat.serving.shapes import FunctionCall, OutputItem, OutputMessage, OutputText, Response, Usage

Chunk = dict[str, Any]


class ResponseStream:
    """Chat completion chunks as events of a response; see `dialect.Translator`.

    Args:
        asked: the request, parts of which the response repeats.
        number: what the ids are made of.
    """

    def __init__(self, asked: Asked, number: str) -> None:
        self._asked = asked
        self._number = number
        self._events = 0
        self._created = int(time.time())
        self._model = asked.chat.model
        self._begun = False
        self._finish_reason: str | None = None
        self._done: list[OutputItem] = []
        self._open: _Text | _Call | None = None

    def chunk(self, chunk: Chunk) -> bytes:
        """What a chunk opens, adds to or closes; the one with usage and decision ends the response."""
        said = b"" if self._begun else self._begin(chunk)
        for choice in chunk.get("choices", ()):
            said += self._delta(choice.get("delta") or {})
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
        return said + (self._end(chunk) if "rheostat" in chunk else b"")

    def end(self) -> bytes:
        """Nothing: the response has ended with its last event."""
        return b""

    def event(self, kind: str, **fields: Any) -> bytes:
        """One event, numbered."""
        data = msgspec.json.encode({"type": kind, "sequence_number": self._events, **fields})
        self._events += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def _begin(self, chunk: Chunk) -> bytes:
        self._begun = True
        self._model = chunk.get("model", self._model)
        shown = self._response(status="in_progress")
        return self.event("response.created", response=shown) + self.event("response.in_progress", response=shown)

    def _delta(self, delta: Chunk) -> bytes:
        said = b""
        if text := delta.get("content"):
            said += self._text(text)
        for piece in delta.get("tool_calls") or ():
            said += self._call(piece)
        return said

    def _text(self, piece: str) -> bytes:
        """A piece of the open message, which is opened where another item is, or none."""
        said = b""
        if not isinstance(self._open, _Text):
            said += self._close()
            self._open = _Text(self)
            said += self._open.begin()
        return said + self._open.add(piece)

    def _call(self, piece: Chunk) -> bytes:
        said, index, function = b"", piece.get("index", 0), piece.get("function") or {}
        if not isinstance(self._open, _Call) or self._open.index != index:
            said += self._close()
            self._open = _Call(self, index, call_id=piece.get("id") or f"call_{index}", name=function.get("name") or "")
            said += self._open.begin()
        return said + self._open.add(function.get("arguments") or "")

    def _close(self, status: str = "completed") -> bytes:
        if self._open is None:
            return b""
        item, said = self._open.end(status)
        self._done.append(item)
        self._open = None
        return said

    def _end(self, chunk: Chunk) -> bytes:
        status = status_of(self._finish_reason)
        said = b"" if self._open or self._done else self._text("")
        said += self._close(status)
        usage = response_usage(msgspec.convert(chunk["usage"], Usage))
        last = self._response(
            status=status,
            incomplete_details=why_incomplete(self._finish_reason),
            usage=usage,
            rheostat=chunk["rheostat"],
        )
        return said + self.event(f"response.{status}", response=last)

    def _response(self, **fields: Any) -> Response:
        return Response(
            id=f"resp_{self._number}",
            created_at=self._created,
            model=self._model,
            output=self._done,
            **self._asked.repeated,
            **fields,
        )

    @property
    def place(self) -> int:
        """Where the open item will stand in the output."""
        return len(self._done)

    @property
    def number(self) -> str:
        """What the ids of items are made of."""
        return self._number


class _Text:
    """The output message as it grows."""

    def __init__(self, stream: ResponseStream) -> None:
        self._stream = stream
        self._id = f"msg_{stream.number}_{stream.place}"
        self._pieces: list[str] = []
        self._at = {"item_id": self._id, "output_index": stream.place, "content_index": 0}

    def begin(self) -> bytes:
        """The events that open it."""
        item = OutputMessage(id=self._id, status="in_progress", content=[])
        added = self._stream.event("response.output_item.added", output_index=self._at["output_index"], item=item)
        return added + self._stream.event("response.content_part.added", **self._at, part=OutputText(text=""))

    def add(self, text: str) -> bytes:
        """The event of a piece; none for an empty one."""
        if not text:
            return b""
        self._pieces.append(text)
        return self._stream.event("response.output_text.delta", **self._at, delta=text, logprobs=[])

    def end(self, status: str) -> tuple[OutputItem, bytes]:
        """The whole, and the events that close it."""
        part = OutputText(text="".join(self._pieces))
        item = OutputMessage(id=self._id, status=status, content=[part])
        said = self._stream.event("response.output_text.done", **self._at, text=part.text, logprobs=[])
        said += self._stream.event("response.content_part.done", **self._at, part=part)
        return item, said + self._stream.event("response.output_item.done", output_index=self._at["output_index"], item=item)


class _Call:
    """A tool call as its arguments grow."""

    def __init__(self, stream: ResponseStream, index: int, *, call_id: str, name: str) -> None:
        self.index = index
        self._stream = stream
        self._item = FunctionCall(id=f"fc_{stream.number}_{stream.place}", call_id=call_id, name=name, arguments="", status="in_progress")
        self._place = stream.place
        self._pieces: list[str] = []

    def begin(self) -> bytes:
        """The event that opens it."""
        return self._stream.event("response.output_item.added", output_index=self._place, item=self._item)

    def add(self, arguments: str) -> bytes:
        """The event of a piece; none for an empty one."""
        if not arguments:
            return b""
        self._pieces.append(arguments)
        return self._stream.event(
            "response.function_call_arguments.delta", item_id=self._item.id, output_index=self._place, delta=arguments
        )

    def end(self, status: str) -> tuple[OutputItem, bytes]:
        """The whole, and the events that close it."""
        item = msgspec.structs.replace(self._item, arguments="".join(self._pieces), status=status)
        said = self._stream.event(
            "response.function_call_arguments.done",
            item_id=item.id,
            output_index=self._place,
            name=item.name,
            arguments=item.arguments,
        )
        return item, said + self._stream.event("response.output_item.done", output_index=self._place, item=item)
