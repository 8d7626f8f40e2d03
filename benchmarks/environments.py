"""Environments of their own for programs that are compared, made the first time."""

from __future__ import annotations

import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path


def installed(folder: Path, program: str, packages: Sequence[Sequence[str]]) -> Path:
    """A program in an environment at `folder`; a path to nothing where pip failed.

    Args:
        folder: of the environment, left as it is where the program is there.
        program: what is looked for among its programs.
        packages: pip's arguments, a call each.
    """
    found = folder.absolute() / "bin" / program
    if not found.exists():
        venv.create(folder, with_pip=True)
        for wanted in packages:
            subprocess.run([folder / "bin" / "pip", "install", "--quiet", *wanted], check=False)
    return found
