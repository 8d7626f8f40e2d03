"""What is wrong with a configuration, told so that it can be mended: the place first, and for a wrong key the known ones."""

from __future__ import annotations

import difflib
import re
from types import NoneType
from typing import Any, get_args, get_type_hints

import msgspec

from rheostat.data.errors import ConfigError


def check_keys(raw: Any, kind: Any, path: str = "") -> None:
    """Refuse a key that no struct has: msgspec would name it, but not its neighbours.

    Args:
        raw: a table, list or value as TOML gives it.
        kind: the struct, or other annotation, it is to become.
        path: where it stands in the file, with a dot at its end; empty for the whole.

    Raises:
        ConfigError: names the key, the nearest known one, and all known ones.
    """
    if NoneType in get_args(kind):
        kind = get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        _check_table(raw, kind, path)
    else:
        _check_items(raw, get_args(kind), path)


def _check_table(raw: Any, kind: type[msgspec.Struct], path: str) -> None:
    if not isinstance(raw, dict):
        return
    for key, value in raw.items():
        if key not in kind.__struct_fields__:
            raise ConfigError(_unknown_key(key, kind.__struct_fields__, path))
        check_keys(value, get_type_hints(kind)[key], f"{path}{key}.")


def _check_items(raw: Any, arguments: tuple[Any, ...], path: str) -> None:
    """The elements of a list, or the values of a table whose keys are free."""
    if isinstance(raw, list) and arguments:
        for index, item in enumerate(raw):
            check_keys(item, arguments[0], f"{path[:-1]}[{index}].")
    if isinstance(raw, dict) and len(arguments) == 2:
        for key, item in raw.items():
            check_keys(item, arguments[1], f"{path}{key}.")


def _unknown_key(key: str, known: tuple[str, ...], path: str) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"config: unknown key {path}{key}: {hint}known are {', '.join(known)}"


def readable(message: str) -> str:
    """msgspec's `Expected x - at `$.a.b`` with the place first."""
    match = re.fullmatch(r"(?s)(.*) - at `\$\.?(.*)`", message)
    return f"{match[2]}: {match[1]}" if match else message
