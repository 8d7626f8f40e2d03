"""Guest: runs the tests of an exam against a solution that lives in another cell, and writes the verdict.

What the solution returns arrives as plain values. Anything else is a `Remote`: it can be called, indexed, gone through, as a
generator is, and asked for attributes, but it equals nothing, holds nothing and is neither true nor false, so an object that
claims to equal everything passes no test.
"""

from __future__ import annotations

import builtins
import os
import sys
from typing import Any, TextIO

from rheostat.data.sandbox.plain import MAX_LINE, dumps, loads
from rheostat.data.sandbox.suite import UnusableError, run_suite


class SolutionError(Exception):
    """The solution ended, or raised something that is no built-in exception."""


class Line:
    """The connection to the solver."""

    def __init__(self, asks: TextIO, answers: TextIO) -> None:
        self._asks = asks
        self._answers = answers

    def receive(self) -> Any:
        """The next answer."""
        line = self._answers.readline(MAX_LINE)
        if not line.endswith("\n"):
            raise SolutionError("the solution ended, or its answer was too long")
        return loads(line, lambda number: Remote(self, number))

    def ask(self, *asked: Any) -> Any:
        """Have something done on the other side; its exceptions are raised here, where they are built-in ones."""
        self._asks.write(dumps(list(asked), _number) + "\n")
        self._asks.flush()
        answer = self.receive()
        if "error" in answer:
            kind = getattr(builtins, str(answer["error"]), None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                raise kind(answer["message"])
            raise SolutionError(f"{answer['error']}: {answer['message']}")
        if asked[0] == "call":
            _take_over(asked[2], answer["changed"])
        return answer["value"]


class Remote:
    """Something of the solution's that is no plain value."""

    __slots__ = ("_line", "_number")
    __contains__ = None

    def __init__(self, line: Line, number: int) -> None:
        object.__setattr__(self, "_line", line)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: D102 - the solution's own
        return self._line.ask("call", self, list(arguments), keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._line.ask("attribute", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._line.ask("assign", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._line.ask("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._line.ask("put", self, key, value)

    def __len__(self) -> int:
        return int(self._line.ask("length", self))

    def __iter__(self) -> Any:
        return self._line.ask("iterate", self)

    def __next__(self) -> Any:
        return self._line.ask("next", self)

    def __bool__(self) -> bool:
        raise TypeError("the solution returned an object of its own where a test wants true or false")


def main(tests: str, names: list[str], asks: int, answers: int, verdict: int, nonce: str) -> None:
    """Run the tests; the nonce is written to `verdict` where all of them pass, and a reason where not: `failed` for the
    solution's fault, `unusable` for tests that check nothing.

    `names` are those that the tests may take from the solution; all that are no built-in's or module's where it is
    empty. A solution must not change the meaning of a name that the tests count on.
    """
    with os.fdopen(verdict, "w", encoding="utf-8") as paper:
        try:
            with os.fdopen(asks, "w", encoding="utf-8") as out, os.fdopen(answers, encoding="utf-8") as back:
                run_suite(tests, _given(Line(out, back).receive(), names))
        except UnusableError as unusable:
            paper.write(f"unusable {str(unusable)[:500]}")
        except BaseException as failure:  # noqa: BLE001 - a test may raise anything, SystemExit too
            paper.write(f"failed {type(failure).__name__}: {str(failure)[:500]}")
        else:
            paper.write(nonce)


def _given(defined: dict[str, Any], names: list[str]) -> dict[str, Any]:
    meant = {*dir(builtins), *sys.stdlib_module_names, "numpy", "np"}
    return {name: value for name, value in defined.items() if (name in names if names else name not in meant)}


def _number(value: Any) -> int:
    if not isinstance(value, Remote):
        raise TypeError(f"a test gives the solution a {type(value).__name__}: only plain values can be given")
    number: int = value._number
    return number


def _take_over(before: list[Any], after: list[Any]) -> None:
    """A solution may change the lists, dicts and sets that it was given: so do ours."""
    for mine, changed in zip(before, after, strict=True):
        if isinstance(mine, list) and isinstance(changed, list):
            mine[:] = changed
        elif isinstance(mine, dict | set) and type(changed) is type(mine):
            mine.clear()
            mine.update(changed)
