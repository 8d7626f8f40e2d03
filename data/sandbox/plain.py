"""Plain values as JSON, so that two cells can talk: None, bool, int, float, str, bytes, complex and containers of them.

Types are kept exactly and subclasses are refused: a value cannot bring behaviour of its own to the other side. Whatever
is not plain is `kept` on its own side and goes over as a number. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

MAX_LINE = 1 << 20

_ITEMS: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_MAKERS: dict[str, Callable[[list[Any]], Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def dumps(value: Any, keep: Callable[[Any], int]) -> str:
    """One line; `keep` takes in what is not plain and gives its number."""
    return json.dumps(_pack(value, keep))


def loads(line: str, kept: Callable[[int], Any]) -> Any:
    """The value of a line; `kept` gives what a number stands for.

    Raises:
        ValueError: it is no such line.
    """
    return _unpack(json.loads(line), kept)


def _pack(value: Any, keep: Callable[[Any], int]) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in _ITEMS:
        return {_ITEMS[kind]: [_pack(item, keep) for item in value]}
    if kind is dict:
        return {"dict": [[_pack(key, keep), _pack(item, keep)] for key, item in value.items()]}
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    return {"kept": keep(value)}


def _unpack(packed: Any, kept: Callable[[int], Any]) -> Any:
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind in _MAKERS:
        return _MAKERS[kind]([_unpack(item, kept) for item in content])
    if kind == "dict":
        return {_unpack(key, kept): _unpack(item, kept) for key, item in content}
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "complex":
        return complex(*content)
    if kind == "kept":
        return kept(content)
    raise ValueError(f"{kind!r} is no kind of plain value")
