"""What is known of things just done, kept until others have come in its place."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The last few values by key. May be used from several threads.

    Args:
        size: how many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[str, Value] = OrderedDict()

    def keep(self, key: str, value: Value) -> None:
        """Keep a value, in place of the oldest where there are too many."""
        self._values[key] = value
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def find(self, key: str) -> Value | None:
        """The value; None where there is none, or no longer."""
        return self._values.get(key)

    def take(self, key: str) -> Value | None:
        """The value, which is then no longer kept; None where there is none, or no longer."""
        return self._values.pop(key, None)
