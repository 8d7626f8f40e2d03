"""How a strategy asks: the instruction it adds to the last user message. Knows no model and no budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rheostat.data.problems.dialogues import ANSWER_ONLY, CHECK, REVISE, STEP_BY_STEP
from rheostat.policies.base import Example

Messages = tuple[dict[str, Any], ...]


def answer_only(messages: Messages) -> Messages:
    """The conversation, asking for the answer and nothing else."""
    return instruct(messages, ANSWER_ONLY)


def step_by_step(messages: Messages) -> Messages:
    """The conversation, asking for the steps and then the answer."""
    return instruct(messages, STEP_BY_STEP)


def briefly(messages: Messages) -> Messages:
    """The conversation, asking for steps of a few words each."""
    return instruct(messages, f"{STEP_BY_STEP} Write no more than a few words for each step.")


def at_length(messages: Messages) -> Messages:
    """The conversation, asking for detailed steps, each of them checked."""
    return instruct(messages, f"{STEP_BY_STEP} Take small steps and check each one before the next.")


def check(messages: Messages, attempt: str) -> Messages:
    """The conversation with an attempt, asking what is wrong with it."""
    return instruct(messages, f"Attempt: {attempt.strip()} {CHECK}")


def revise(messages: Messages, attempt: str, critique: str) -> Messages:
    """The conversation with an attempt and its critique, asking for a better one."""
    return instruct(messages, f"Attempt: {attempt.strip()} Critique: {critique.strip()} {REVISE}")


def with_examples(messages: Messages, examples: Sequence[Example], how: Callable[[Messages], Messages]) -> Messages:
    """The conversation behind solved examples, which stand as earlier turns after the system's message, asked for alike."""
    first = next((at for at, message in enumerate(messages) if message.get("role") not in ("system", "developer")), len(messages))
    turns = [
        turn
        for question, reply in examples
        for turn in (*how(({"role": "user", "content": question},)), {"role": "assistant", "content": reply})
    ]
    return (*messages[:first], *turns, *how(messages[first:]))


def instruct(messages: Messages, instruction: str) -> Messages:
    """A copy of the conversation whose last user message ends in `instruction`, after one space.

    A conversation without a user message is returned as it is: there is no question to extend.
    """
    for at in range(len(messages) - 1, -1, -1):
        if messages[at].get("role") == "user":
            return (*messages[:at], _extended(messages[at], instruction), *messages[at + 1 :])
    return messages


def _extended(message: dict[str, Any], instruction: str) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": _extended_parts(content, instruction)}
    return {**message, "content": _joined(content or "", instruction)}


def _extended_parts(parts: list[Any], instruction: str) -> list[Any]:
    """The instruction goes into the last text part, so that it follows the question and not an image."""
    for at in range(len(parts) - 1, -1, -1):
        part = parts[at]
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            return [*parts[:at], {**part, "text": _joined(part["text"], instruction)}, *parts[at + 1 :]]
    return [*parts, {"type": "text", "text": instruction}]


def _joined(text: str, instruction: str) -> str:
    return f"{text.rstrip()} {instruction}" if text.strip() else instruction
