"""JSON bytes to a checked struct. Knows no endpoint: what is wrong becomes a RequestError that names the field."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from rheostat.data.errors import RequestError
from rheostat.serving.misfit import misfit

T = TypeVar("T")

ESCAPED_NUL = b"\\u0000"
MAX_NAME = 60  # characters of a client's own key in an error


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The struct in a body.

    Raises:
        RequestError: status 400; no JSON, a field that does not fit, a key given twice at any depth, or a NUL in a text.
    """
    try:
        value = _fitted(body, decoder)
        _check_keys(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is no JSON: {error}", param="body", code="invalid_json") from error
    except RecursionError as error:
        raise RequestError("the body is nested too deeply", param="body", code="invalid_json") from error
    return value


def of_validation(raw: Any, kind: Any, error: msgspec.ValidationError, *, strict: bool = True) -> RequestError:
    """What a value does not fit in, with the field it is about; msgspec's own sentence where nothing is found."""
    found = misfit(raw, kind, strict=strict)
    if found is None:
        return RequestError(f"body: {error}", param="body")
    param = found.place or "body"
    if found.is_unknown:
        return RequestError(f"{param}: unknown field: {found.wrong}", param=param, code="unknown_field")
    return RequestError(f"{param}: {found.wrong}", param=param)


def check_depth(fields: dict[str, Any], limit: int, body: bytes) -> None:
    """Level by level and without recursion, so that a deep value cannot exhaust the stack.

    Args:
        fields: to look into.
        limit: levels.
        body: the JSON they came in, which tells of most requests that there are fewer brackets than levels.

    Raises:
        RequestError: a field is nested deeper than `limit`.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    level = list(fields.items())
    for _ in range(limit):
        level = [(name, child) for name, item in level for child in _children(item)]
        if not level:
            return
    raise RequestError(f"{level[0][0]}: nested deeper than {limit} levels", param=level[0][0])


def shown(value: Any) -> str:
    """A value as an error message shows it: never long."""
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."


def _fitted(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise of_validation(msgspec.json.decode(body), decoder.type, error) from error


def _check_keys(body: bytes) -> None:
    """A key given twice has two meanings, and the engine may read the other one: refuse it."""
    value = _UNIQUE.decode(body.decode())
    if ESCAPED_NUL in body and (at := _with_nul(value)):
        raise RequestError(f"{at}: a NUL character is not served", param=at)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RequestError(f"{twice[:MAX_NAME]}: the key is given twice", param=twice[:MAX_NAME], code="duplicate_key")
    return unique


_UNIQUE = json.JSONDecoder(object_pairs_hook=_unique_keys)


def _with_nul(value: dict[str, Any]) -> str | None:
    """The first field that holds a NUL, in a text or in a key."""
    level = list(value.items())
    while level:
        found = next((name for name, item in level if isinstance(item, str) and "\x00" in item), None)
        if found is not None:
            return found[:MAX_NAME]
        level = [(name, child) for name, item in level for child in (*_keys(item), *_children(item))]
    return None


def _keys(item: Any) -> Iterable[str]:
    return item.keys() if isinstance(item, dict) else ()


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()
