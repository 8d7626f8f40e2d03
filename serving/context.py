"""What belongs to the request being served, wherever in its tasks one is: when it came, its trace, and notes for its log line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from rheostat.serving.tracing import Trace


class RequestContext:
    """One request, from its first byte to its last.

    Args:
        trace: the trace it belongs to.
        arrived_s: monotonic seconds when its head was read.
    """

    __slots__ = ("arrived_s", "notes", "trace")

    def __init__(self, trace: Trace, arrived_s: float) -> None:
        self.trace = trace
        self.arrived_s = arrived_s
        self.notes: dict[str, Any] = {}


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def enter(context: RequestContext) -> None:
    """Make it the context of this task and of the tasks it will start."""
    _current.set(context)


def note(**fields: Any) -> None:
    """Add fields to the log line of the request being served; of none, nothing happens."""
    context = _current.get()
    if context is not None:
        context.notes |= fields


def waited_s() -> float:
    """Seconds since the request being served came; 0 outside of one."""
    context = _current.get()
    return 0.0 if context is None else time.monotonic() - context.arrived_s


def trace_headers() -> Mapping[str, str]:
    """The headers that carry the trace of the request being served to an engine."""
    context = _current.get()
    return {} if context is None else context.trace.headers
