"""The part of a text that an encoder reads."""

from __future__ import annotations

MAX_CHARACTERS = 8_000


def readable(text: str) -> str:
    """A text cut to `MAX_CHARACTERS`, lone surrogates replaced, which tokenizers refuse."""
    return text[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
