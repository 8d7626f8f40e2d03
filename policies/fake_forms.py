"""Replies of the fake engine that have a form: a tool call where tools are offered, JSON where a schema asks for it."""

from __future__ import annotations

import json
from typing import Any

Fields = dict[str, Any]

EXAMPLES: Fields = {"integer": 1, "number": 0.5, "string": "x", "boolean": True, "null": None, "array": []}


def tool_call(body: Fields) -> Fields | None:
    """A call of the first tool offered, with arguments that fit; None where none is to be called."""
    if not body.get("tools") or body.get("tool_choice") == "none" or body["messages"][-1]["role"] == "tool":
        return None
    function = body["tools"][0]["function"]
    return {"name": function["name"], "arguments": json.dumps(example(function.get("parameters") or {}))}


def formed_text(body: Fields) -> str | None:
    """The JSON that a `response_format` asks for; None where any text will do."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return "{}"
    if wanted.get("type") != "json_schema":
        return None
    return json.dumps(example(wanted["json_schema"].get("schema") or {}))


def example(schema: Fields) -> Any:
    """A value that fits a simple schema."""
    if schema.get("type", "object") == "object":
        return {name: example(part) for name, part in schema.get("properties", {}).items()}
    return schema["enum"][0] if "enum" in schema else EXAMPLES.get(schema["type"])
