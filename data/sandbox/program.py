"""Guest: a whole program, with its standard input. Runs in a cell, with the standard library only."""

from __future__ import annotations

import builtins
import os
import sys
import types


def main(code: str, stdin: int) -> None:
    """Run the program as the main module, with what the file descriptor `stdin` holds as its input, however it reads it."""
    os.dup2(stdin, 0)
    os.close(stdin)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, for as long as the program runs
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # what programs count on, and only an interpreter with packages has
    module = sys.modules["__main__"] = types.ModuleType("__main__")  # where its classes are looked up
    exec(compile(code, "program", "exec"), module.__dict__)  # noqa: S102 - this is what the cell is for
