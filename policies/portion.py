"""A part of the cap for a part of the work."""

from __future__ import annotations

from msgspec.structs import replace

from rheostat.policies.base import Context


def portion(context: Context, max_tokens: int, *, model: str | None = None) -> Context:
    """The context with at most `max_tokens` to spend from now on, on another model where one is given.

    Holds while nothing else spends from the same meter. What is left of the portion goes back by itself.
    """
    before = context.left_tokens()

    def left_tokens() -> int:
        left = context.left_tokens()
        return min(left, max_tokens - (before - left))

    return replace(context, left_tokens=left_tokens, model=model or context.model)
