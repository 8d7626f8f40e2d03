"""What was run for one request, where several actions may be: the path that its answer tells."""

from __future__ import annotations

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One action that was run where several may be: what it took and answered, and how sure one was after it."""

    action: str
    tokens: int
    answer: str | None
    p_correct: float | None = None
    failed: bool = False
