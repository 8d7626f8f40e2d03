"""W3C trace context: read from the request, sent on with every call to an engine.

The sidecar exports no spans, so it passes the caller's parent on unchanged, as the recommendation asks of those who do
not take part: a parent of its own would be a span nobody has. Source: W3C Trace Context, level 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from rheostat.data.randomness import random_hex

MAX_STATE_BYTES = 512
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# Recorded unless the engine's own sampler decides otherwise, which is what it does with a call that has no parent.
SAMPLED = "01"


class Trace(NamedTuple):
    """The trace a request belongs to."""

    trace_id: str
    parent: str
    state: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that carry it on."""
        return {"traceparent": self.parent} | ({"tracestate": self.state} if self.state else {})


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> Trace:
    """The trace named in a request's headers; a new one where none, or no valid one, is named."""
    parents: list[bytes] = []
    states: list[bytes] = []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    match = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if match is None or not _is_valid(match):
        return new_trace()
    return Trace(match[2].decode(), parents[0].decode(), _joined(states))


def new_trace() -> Trace:
    """A trace that begins here."""
    trace_id = random_hex() + random_hex()
    return Trace(trace_id, f"00-{trace_id}-{random_hex()}-{SAMPLED}")


def _is_valid(match: re.Match[bytes]) -> bool:
    version, trace_id, span_id, _, more = match.groups()
    is_known = version != b"ff" and not (version == b"00" and more)
    # Later versions may say more, in printable characters; nothing else may get into a header.
    return is_known and bool(trace_id.strip(b"0")) and bool(span_id.strip(b"0")) and (more or b"").isascii() and len(more or b"") < 200


def _joined(states: list[bytes]) -> str:
    """All tracestate headers as one; dropped where it is not what a header may hold."""
    state = b",".join(states)
    fits = len(state) <= MAX_STATE_BYTES and all(32 <= byte < 127 for byte in state)
    return state.decode() if fits else ""
