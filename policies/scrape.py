"""Reads the counters an engine exposes in the Prometheus text format."""

from __future__ import annotations

import math
import re

_LINE = re.compile(r"^vllm:(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)(?:\{.*\})?\s+(?P<value>\S+)", re.MULTILINE)


def sum_metrics(text: str) -> dict[str, float]:
    """Values by name, without the prefix `vllm:`, added up over labels; a share (`_perc`) is the largest of them."""
    values: dict[str, float] = {}
    for match in _LINE.finditer(text):
        name, value = match["name"], _number(match["value"])
        if name in values:
            value = max(values[name], value) if name.endswith("_perc") else values[name] + value
        values[name] = value
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
