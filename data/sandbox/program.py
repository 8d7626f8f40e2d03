"""Guest: a whole program, with its standard input. Runs in a cell, with the standard library only."""

from __future__ import annotations

import io
import sys


def main(code: str, stdin: str) -> None:
    """Run the program as if it were the main module."""
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    exec(compile(code, "program", "exec"), {"__name__": "__main__"})  # noqa: S102 - this is what the cell is for
