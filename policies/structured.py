"""Answers that are data: tool calls and JSON. They are picked or voted among as wholes, never merged.

Two candidates agree where their data is equal, whatever the order of keys, the spacing or the ids of calls. What is
not valid, a call of an unknown tool or a text that is no JSON where JSON was asked for, is no answer: a cost, never a
vote. Whether JSON meets its schema is a verifier's question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

JSON_FORMATS = ("json_object", "json_schema")


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def asks_for_json(asked: Mapping[str, Any]) -> bool:
    """Whether the request's other fields demand a JSON answer."""
    response_format = asked.get("response_format")
    structured = asked.get("structured_outputs")
    wanted = isinstance(response_format, dict) and response_format.get("type") in JSON_FORMATS
    return wanted or (isinstance(structured, dict) and ("json" in structured or bool(structured.get("json_object"))))


def canonical_json(text: str) -> str | None:
    """The one spelling of a JSON text; None where it is none."""
    try:
        return _spelled(json.loads(text))
    except (ValueError, RecursionError):
        return None


def canonical_calls(calls: tuple[dict[str, Any], ...], asked: Mapping[str, Any]) -> str | None:
    """The one spelling of tool calls: names and arguments count. None where a tool was not offered or has no arguments that can be read."""
    offered = _offered(asked)
    spelled = []
    for call in calls:
        function = call.get("function") or {}
        arguments = _arguments(function.get("arguments"))
        if arguments is None or (offered and function.get("name") not in offered):
            return None
        spelled.append([function.get("name"), arguments])
    return _spelled(spelled)


def _offered(asked: Mapping[str, Any]) -> frozenset[str]:
    tools = asked.get("tools")
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list | tuple) else []
    return frozenset(str(function.get("name")) for function in functions if isinstance(function, dict))


def _arguments(arguments: Any) -> dict[str, Any] | None:
    if not isinstance(arguments, str):
        return arguments if isinstance(arguments, dict) else None
    try:
        decoded = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _spelled(value: Any) -> str | None:
    """One spelling; None where half a surrogate pair is in it, which JSON can write and no later step can encode, or no end of nesting."""
    try:
        spelled = json.dumps(value, sort_keys=True, ensure_ascii=False)
    except RecursionError:  # it was just not too deep to be read
        return None
    return spelled if is_encodable(spelled) else None
