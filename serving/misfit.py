"""What of a decoded JSON or TOML value does not fit the struct that it is to become, told so that it can be mended.

msgspec finds that a value does not fit, in a hundredth of the time; this looks again, and only then: it finds the place
inside of free tables too, says what is there, and says what may be there in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from rheostat.data.spelling import did_you_mean

SHOWN = 60  # characters of a value, or of a key, in an error
MAX_BITS = 128  # of a number that is shown: Python does not even spell very long ones
UNSHOWN = ("sha256",)  # fields in which somebody may have put the secret itself
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_BOUNDS = {"gt": "above", "ge": "of at least", "lt": "below", "le": "at most"}


class Misfit(NamedTuple):
    """A place, as in `tools[1].type` and empty for the whole; what is wrong there; whether nobody knows a field of that name."""

    place: str
    wrong: str
    is_unknown: bool = False


def misfit(raw: Any, kind: Any, *, strict: bool = True, thing: str = "object", place: str = "") -> Misfit | None:
    """The first part that does not fit; None where all does.

    Args:
        raw: as JSON or TOML gives it.
        kind: the struct, or other annotation, that it is to become.
        strict: whether "1" is no number.
        thing: what an object is called in this format.
        place: where the value stands.
    """
    if _fits(raw, kind, strict=strict):
        return None
    for arm in _arms(kind):
        for inner, inner_kind, where in _parts(raw, arm, place, thing):
            if isinstance(inner, Misfit):
                return inner
            found = misfit(inner, inner_kind, strict=strict, thing=thing, place=where)
            if found is not None:
                return found
    return Misfit(place, f"{_shown(raw, place, thing)} does not fit: {_hint(raw, kind)}it must be {_wanted(kind, thing)}")


def _fits(raw: Any, kind: Any, *, strict: bool) -> bool:
    try:
        msgspec.convert(raw, kind, strict=strict)
    except msgspec.ValidationError:
        return False
    return True


def _arms(kind: Any) -> list[Any]:
    """The alternatives that an annotation stands for, without absence."""
    if get_origin(kind) in (Union, UnionType):
        return [arm for each in get_args(kind) for arm in _arms(each)]
    return [] if kind in (NoneType, msgspec.UnsetType) else [kind]


def _parts(raw: Any, arm: Any, place: str, thing: str) -> Iterator[tuple[Any, Any, str]]:
    """What a value holds, with the annotation and the place of each; a Misfit in the place of what is no part at all."""
    base = get_args(arm)[0] if get_origin(arm) is Annotated else arm
    arguments = get_args(base)
    if isinstance(raw, dict) and isinstance(base, type) and issubclass(base, msgspec.Struct):
        yield from _fields(raw, base, place, thing)
    elif isinstance(raw, dict) and get_origin(base) is dict:
        values, kind = list(raw.values()), arguments[1]
        yield from ((values[at], kind, _within(place, list(raw)[at])) for at in _bad_ones(values, kind))
    elif isinstance(raw, list) and get_origin(base) in (list, tuple):
        yield from ((raw[at], arguments[0], f"{place}[{at}]") for at in _bad_ones(raw, arguments[0]))


def _bad_ones(items: list[Any], kind: Any) -> list[int]:
    """Where the first one is that does not fit, if there is one: msgspec tells its number, and there may be many thousands."""
    try:
        msgspec.convert(items, list[kind], strict=True)
    except msgspec.ValidationError as error:
        found = re.search(r" - at `\$\[([0-9]+)\]", str(error))
        return [int(found[1])] if found else []
    return []


def _fields(raw: Mapping[str, Any], kind: type[msgspec.Struct], place: str, thing: str) -> Iterator[tuple[Any, Any, str]]:
    fields = msgspec.structs.fields(kind)
    known = [field.name for field in fields]
    for key in raw:
        if key not in known:
            yield Misfit(_within(place, key), f"{did_you_mean(key[:SHOWN], known)}known are {', '.join(known)}", is_unknown=True), None, ""
    for field in fields:
        where = _within(place, field.name)
        if field.name in raw:
            yield raw[field.name], field.type, where
        elif field.required:
            yield Misfit(where, f"is missing: give {_wanted(field.type, thing)}"), None, ""


def _within(place: str, name: str) -> str:
    return f"{place}.{name[:SHOWN]}" if place else name[:SHOWN]


def _shown(raw: Any, place: str, thing: str) -> str:
    """A value that is wrong; neither a long one nor a secret."""
    if place.rpartition(".")[2] in UNSHOWN:
        return "what is there"
    if isinstance(raw, dict | list):
        return _a(thing) if isinstance(raw, dict) else "a list"
    if raw is None or isinstance(raw, bool):
        return {None: "null", True: "true", False: "false"}[raw]
    if isinstance(raw, int) and raw.bit_length() > MAX_BITS:
        return "a number that long"
    text = repr(raw[: SHOWN + 1]) if isinstance(raw, str) else str(raw)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _hint(raw: Any, kind: Any) -> str:
    """A question about the word that was meant, where only some are known."""
    known = [str(each) for arm in _arms(kind) if get_origin(arm) is Literal for each in get_args(arm)]
    return did_you_mean(raw[:SHOWN], known) if isinstance(raw, str) else ""


def _wanted(kind: Any, thing: str) -> str:
    return " or ".join(dict.fromkeys(_words(arm, thing) for arm in _arms(kind)))


def _words(arm: Any, thing: str) -> str:
    """What one alternative takes."""
    if get_origin(arm) is not Annotated:
        return _name(arm, thing)
    base, *bounds = get_args(arm)
    name = _name(base, thing)
    for bound in bounds:
        if bound.description:
            return str(bound.description)
        name = f"{name}{_size(bound, name)}{_range(bound)}"
    return name


def _name(base: Any, thing: str) -> str:
    if get_origin(base) is Literal:
        return f"one of {', '.join(map(str, get_args(base)))}"
    if get_origin(base) in (list, tuple):
        inner = _wanted(get_args(base)[0], thing)
        return f"a list of {thing}s" if inner.endswith(thing) else f"a list, each of which is {inner}"
    return _NAMES.get(base, _a(thing))


def _a(thing: str) -> str:
    return f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"


def _size(bound: msgspec.Meta, name: str) -> str:
    of = "characters" if name == _NAMES[str] else "items"
    least, most = bound.min_length, bound.max_length
    if bound.pattern:
        return f" that matches {bound.pattern}"
    if most is not None:
        return f" with {least} to {most} {of}" if least else f" with at most {most} {of}"
    return f" with at least {least} {of}" if least else ""


def _range(bound: msgspec.Meta) -> str:
    said = [f"{word} {getattr(bound, name):,}" for name, word in _BOUNDS.items() if getattr(bound, name) is not None]
    return f" {' and '.join(said)}" if said else ""
