"""Guest: holds a solution and does with it what the examiner asks, one JSON line at a time.

It never sees a test or an expected value, so there is nothing in here worth forging.
"""

from __future__ import annotations

import operator
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from rheostat.data.sandbox.plain import MAX_LINE, dumps, loads

OPERATIONS: dict[str, Callable[..., Any]] = {
    "attribute": getattr,
    "assign": setattr,
    "item": operator.getitem,
    "put": operator.setitem,
    "length": len,
    "iterate": iter,
    "next": next,
    "call": lambda function, arguments, keywords: function(*arguments, **keywords),
}


def main(code: str, asks: int, answers: int) -> None:
    """Define the solution, then answer until the examiner hangs up.

    The first answer holds the names that the solution defines.
    """
    module = sys.modules["solution"] = types.ModuleType("solution")  # dataclasses look their module up by its name
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    with os.fdopen(asks, encoding="utf-8") as incoming, os.fdopen(answers, "w", encoding="utf-8") as outgoing:
        exec(compile(code, "solution", "exec"), module.__dict__)  # noqa: S102 - this is what the cell is for
        reply = dumps({name: value for name, value in vars(module).items() if not name.startswith("__")}, keep)
        while True:
            outgoing.write(reply + "\n")
            outgoing.flush()
            if not (line := incoming.readline(MAX_LINE)):
                return
            reply = _answer(loads(line, kept.__getitem__), keep)


def _answer(asked: list[Any], keep: Callable[[Any], int]) -> str:
    """`value` or `error` of what was asked, and the arguments as they are afterwards, since a call may change them."""
    operation, *operands = asked
    try:
        value = OPERATIONS[operation](*operands)
        changed = operands[1] if operation == "call" else []
        return dumps({"value": value, "changed": changed}, keep)
    except Exception as error:  # noqa: BLE001 - whatever the solution raises is its answer
        return dumps({"error": type(error).__name__, "message": str(error)[:500]}, keep)
