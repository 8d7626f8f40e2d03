"""The program that a verifier's worker process runs: one JSON line in, one out, until its input ends.

Asked `[task]` it loads what the task needs; asked `[task, answer, reference]` it gives the score, or what is wrong with
the reference. It bounds its own memory and watches no clock: whoever asked kills it when it is late.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Callable
from typing import Any

MEMORY_BYTES = 4 * 2**30
_STATED = re.compile(r"\banswer(?: is|:) ?:?(.*?)\.?$", re.IGNORECASE)
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)


class UnusableError(ValueError):
    """The reference cannot be used."""


def regex(answer: str, reference: str) -> float:
    """Whether the whole answer matches the pattern."""
    try:
        return float(re.fullmatch(reference, answer) is not None)
    except re.error as error:
        raise UnusableError(str(error)) from error


def latex(answer: str, reference: str) -> float:
    """Whether two expressions are equal; the reply's boxed or last one counts."""
    from math_verify import parse, verify

    expected = parse(_mathematical(reference), parsing_timeout=None)
    if not expected:
        raise UnusableError("nothing in it could be parsed")
    return float(verify(expected, parse(_mathematical(answer), parsing_timeout=None), timeout_seconds=None))


def _mathematical(text: str) -> str:
    """Marked-up mathematics as it is; of other text what the last line says the answer is, or all of that line."""
    if "$" in text or "\\boxed" in text or "\\(" in text or "\\[" in text:
        return text
    last = text.strip().rsplit("\n", 1)[-1]
    stated = _STATED.search(last)
    return f"${stated[1] if stated else last.rstrip('.')}$"


def json_schema(answer: str, reference: str) -> float:
    """Whether the reply is JSON that fits a schema."""
    from jsonschema import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        schema = json.loads(reference)
        kind = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
    except (ValueError, SchemaError) as error:
        raise UnusableError(str(error).splitlines()[0]) from error
    try:
        # A registry of its own, without a way to fetch: the default one would follow a reference into the network.
        return float(kind(schema, registry=Registry()).is_valid(json.loads(_unfenced(answer))))
    except ValueError:
        return 0.0
    except Unresolvable as error:
        raise UnusableError(f"it refers to {error.ref!r}, which it does not hold") from error


def _unfenced(reply: str) -> str:
    fenced = _FENCED.findall(reply)
    return str(fenced[-1]) if fenced else reply


TASKS: dict[str, Callable[[str, str], float]] = {"regex": regex, "latex": latex, "json_schema": json_schema}
# A harmless pair for each, so that what is slow to import is loaded before the clock runs.
_FIRST = {"regex": ("", ""), "latex": ("$x^2+2x+1$", "$(x+1)^2$"), "json_schema": ("1", "{}")}


def answer_to(asked: list[str]) -> dict[str, Any]:
    """The line that answers a line."""
    task, *pair = asked
    try:
        return {"score": TASKS[task](*(pair or _FIRST[task]))}
    except UnusableError as error:
        return {"refused": str(error)[:300]}
    except ModuleNotFoundError as error:
        return {"missing": str(error.name)}
    except (ArithmeticError, AttributeError, MemoryError, NotImplementedError, RecursionError, TypeError, ValueError):
        return {"score": None}


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer_to(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
