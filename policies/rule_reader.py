"""The grammar of stop rules. Knows how they are written, not what they do.

any  := all ('|' all)*
all  := one ('&' one)*
one  := '(' any ')' | name [ '(' [argument (',' argument)*] ')' ]
argument := [name '='] number
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

from rheostat.data.errors import ActionError

Rule = TypeVar("Rule")
Join = Callable[[Iterable[Rule]], Rule]

_TOKEN = re.compile(r"\s*([a-z_]+|[0-9.]+(?:e-?[0-9]+)?|[()|&=,])")
_END = ""


class Argument(NamedTuple):
    """One argument as written; without a name it takes the next place."""

    name: str | None
    value: int | float


def read_rule(spelling: str, registry: Mapping[str, type[Rule]], *, any_of: Join[Rule], all_of: Join[Rule]) -> Rule:
    """The rule `spelling` names, built from the dataclasses of `registry`.

    Raises:
        ActionError: the spelling cannot be read, a name is unknown, or an argument does not fit.
    """
    tokens = _Tokens(spelling)

    def joined(operator: str, read: Callable[[], Rule], join: Join[Rule]) -> Rule:
        rules = [read()]
        while tokens.accept(operator):
            rules.append(read())
        return join(rules)

    def any_rule() -> Rule:
        return joined("|", lambda: joined("&", one, all_of), any_of)

    def one() -> Rule:
        if tokens.accept("("):
            rule = any_rule()
            tokens.expect(")")
            return rule
        return _build(tokens.take(), _arguments(tokens), registry, spelling)

    rule = any_rule()
    tokens.expect(_END)
    return rule


def signature(rule: type[Any]) -> str:
    """The arguments a rule takes, as in `c: float`."""
    return ", ".join(f"{field.name}: {field.type}" for field in fields(rule)) or "no arguments"


def _build(name: str, arguments: list[Argument], registry: Mapping[str, type[Rule]], spelling: str) -> Rule:
    rule = registry.get(name)
    if rule is None:
        raise ActionError(f"unknown stop rule {name!r} in {spelling!r}: known are {', '.join(registry)}")
    types = {field.name: field.type for field in fields(rule)}  # type: ignore[arg-type]
    given = _named(arguments, list(types))
    for argument, value in given.items():
        if argument not in types or (types[argument] == "int" and not isinstance(value, int)):
            raise ActionError(f"{name} in {spelling!r} takes {signature(rule)}, not {argument}={value}")
    try:
        return rule(**given)
    except TypeError as error:
        raise ActionError(f"{name} in {spelling!r} takes {signature(rule)}: give all of them") from error


def _named(arguments: list[Argument], names: list[str]) -> dict[str, int | float]:
    """Arguments by name, those without one in their place."""
    return {name or (names[at] if at < len(names) else f"argument {at + 1}"): value for at, (name, value) in enumerate(arguments)}


def _arguments(tokens: _Tokens) -> list[Argument]:
    arguments: list[Argument] = []
    if not tokens.accept("("):
        return arguments
    while not tokens.accept(")"):
        if arguments:
            tokens.expect(",")
        arguments.append(_argument(tokens))
    return arguments


def _argument(tokens: _Tokens) -> Argument:
    text = tokens.take()
    if tokens.accept("="):
        return Argument(text, _number(tokens.take(), tokens))
    return Argument(None, _number(text, tokens))


def _number(text: str, tokens: _Tokens) -> int | float:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError as error:
        raise tokens.unreadable(text) from error


class _Tokens:
    """The spelling, cut up, and how far it has been read."""

    def __init__(self, spelling: str) -> None:
        self._spelling = spelling
        self._tokens: list[str] = []
        at, end = 0, len(spelling.rstrip())
        while at < end:
            match = _TOKEN.match(spelling, at)
            if match is None:
                raise self.unreadable(spelling[at:].strip())
            self._tokens.append(match[1])
            at = match.end()

    def take(self) -> str:
        """The next token, consumed; the empty text at the end."""
        return self._tokens.pop(0) if self._tokens else _END

    def accept(self, token: str) -> bool:
        """Consume `token` if it is next."""
        if self._tokens[:1] == [token]:
            self._tokens.pop(0)
            return True
        return False

    def expect(self, token: str) -> None:
        """Consume `token`, or say where reading failed."""
        found = self.take()
        if found != token:
            raise self.unreadable(found)

    def unreadable(self, found: str) -> ActionError:
        """What to raise at `found`."""
        return ActionError(f"cannot read the stop rule {self._spelling!r} at {found or 'its end'!r}: write it as 'lead(2)|fixed(8)'")
