"""The steps of a chain of thought: where one ends and the next begins. Knows no model."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r";\s+|\.\s+")


def split_steps(text: str) -> tuple[str, ...]:
    """The steps in order, without the marks between them: the lines of a text that has several, else its clauses.

    `7+8=15; 2+1=3. The answer is 35.` has three.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    parts = lines if len(lines) > 1 else _SENTENCE.split(text)
    return tuple(step for part in parts if (step := part.strip(" \t\n;").removesuffix(".")))
