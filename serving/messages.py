"""The messages of a chat, checked one by one: roles, fields, and content that is text."""

from __future__ import annotations

from typing import Any

from rheostat.data.errors import RequestError
from rheostat.serving.decoding import shown

ROLES = ("system", "developer", "user", "assistant", "tool")
TEXT_FIELDS = frozenset({"name", "tool_call_id", "refusal", "reasoning_content", "reasoning"})
FIELDS = TEXT_FIELDS | {"role", "content", "tool_calls"}

Message = dict[str, Any]


def check_messages(messages: list[Message]) -> None:
    """Every message by itself, and that one of them is the user's.

    Raises:
        RequestError: names the message and its field.
    """
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")
    if "user" not in [message["role"] for message in messages]:
        raise RequestError("messages: one message must have the role 'user'", param="messages")


def _check_message(message: Message, at: str) -> None:
    _check_known(message, FIELDS, at)
    role = message.get("role")
    if role not in ROLES:
        raise RequestError(f"{at}.role: {shown(role)} is none of {', '.join(ROLES)}", param=f"{at}.role")
    _check_content(message, at)
    for name in message.keys() & TEXT_FIELDS:
        if not (message[name] is None or isinstance(message[name], str)):
            raise RequestError(f"{at}.{name}: must be a string", param=f"{at}.{name}")
    if not _is_objects(message.get("tool_calls")):
        raise RequestError(f"{at}.tool_calls: must be a list of objects", param=f"{at}.tool_calls")


def _check_content(message: Message, at: str) -> None:
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        return
    if isinstance(content, list) and content:
        for index, part in enumerate(content):
            _check_part(part, f"{at}.content[{index}]")
        return
    if not isinstance(content, str):
        raise RequestError(f"{at}.content: must be a string or a list of text parts", param=f"{at}.content")
    if not content.strip() and message["role"] == "user":
        raise RequestError(f"{at}.content: is empty", param=f"{at}.content")


def _check_part(part: Any, at: str) -> None:
    if not isinstance(part, dict):
        raise RequestError(f"{at}: must be an object", param=at)
    if part.get("type") != "text":
        raise RequestError(f"{at}.type: {shown(part.get('type'))} is not served: only 'text' parts are", param=f"{at}.type")
    if not isinstance(part.get("text"), str):
        raise RequestError(f"{at}.text: must be a string", param=f"{at}.text")
    _check_known(part, frozenset({"type", "text"}), at)


def _check_known(given: Message, known: frozenset[str], at: str) -> None:
    if not given.keys() <= known:
        unknown = next(key for key in given if key not in known)
        raise RequestError(
            f"{at}.{unknown[:60]}: unknown field; known are {', '.join(sorted(known))}", param=f"{at}.{unknown[:60]}", code="unknown_field"
        )


def _is_objects(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(item, dict) for item in value))
