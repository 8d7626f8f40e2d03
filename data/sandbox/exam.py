"""Grades a solution against tests. The verdict is made where the solution has no hand in it.

Solution and tests run in cells of their own and talk over two pipes in plain values. The examiner says over a third,
which the solution's cell does not have, a number drawn for this exam. So printing a pass mark, leaving early, or patching
whatever can be patched from inside the solution's cell passes nothing. Programs that read and print are compared out here.
"""

from __future__ import annotations

import os
import secrets
import select
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rheostat.data.errors import DatasetError, SandboxError
from rheostat.data.sandbox.host import Cell, Sandbox

PACKAGE = "rheostat.data.sandbox"
HERE = Path(__file__).parent
UNUSABLE = "unusable "  # as the examiner says it


class Verdict(NamedTuple):
    """Whether a solution passed, why not, and how long it took."""

    passed: bool
    reason: str
    seconds: float


def run_tests(sandbox: Sandbox, solution: str, tests: str, *, names: Sequence[str] = ()) -> Verdict:
    """Run tests against a solution: asserts, `test_` functions (also async), `Test` classes and unittest cases.

    Args:
        sandbox: where both run.
        solution: Python source that defines what is tested.
        tests: Python source that tests it; it can give the solution plain values, and get any.
        names: what the tests take from the solution; all that it defines where empty.

    Raises:
        DatasetError: the tests check nothing, so that every solution would pass.
        SandboxError: no cell could be made, or only one that a solution could break out of into the tests.
    """
    if sandbox.isolation == "process" and os.getuid() != 0:
        raise SandboxError("tests in Python need kernel namespaces, or root: without them a solution could reach into the examiner")
    nonce = secrets.token_hex(16)
    with ExitStack() as stack:
        asks, answers, verdict = (_Pipe(stack) for _ in range(3))
        solver = {"code": solution, "asks": asks.out, "answers": answers.into}
        examiner = {
            "tests": tests, "names": list(names), "asks": asks.into, "answers": answers.out, "verdict": verdict.into, "nonce": nonce,
        }  # fmt: skip
        solving = stack.enter_context(sandbox.cell(_modules("plain", "solver"), solver, (asks.out, answers.into)))
        fds = (asks.into, answers.out, verdict.into)
        examining = stack.enter_context(sandbox.cell(_modules("plain", "suite", "examiner"), examiner, fds))
        for pipe in (asks, answers):
            pipe.close()
        # With our copy of the writing end closed, the end of the examiner is the end of the file.
        verdict.close_into()
        said = _read(verdict.out, examining)
        return _verdict(said, nonce, solving, sandbox.limits.wall_s - examining.left_s)


def run_cases(sandbox: Sandbox, program: str, cases: Sequence[tuple[str, str]]) -> Verdict:
    """Run a program once for each (input, expected output); what it says on standard error, trailing blanks and empty lines do not count.

    Raises:
        SandboxError: no cell could be made.
    """
    seconds = 0.0
    for number, (given, expected) in enumerate(cases):
        ran = sandbox.run(program, stdin=given)
        seconds += ran.seconds
        if ran.timed_out:
            return Verdict(False, f"case {number}: no answer within {sandbox.limits.wall_s:g} s", seconds)
        if ran.status != 0:
            return Verdict(False, f"case {number}: ended with status {ran.status}: {ran.errors[-200:]}", seconds)
        if _lines(ran.output) != _lines(expected):
            return Verdict(False, f"case {number}: printed {ran.output[:200]!r}", seconds)
    return Verdict(True, "", seconds)


class _Pipe:
    """A pipe, closed at the latest with the stack; `out` is read from, `into` is written to."""

    def __init__(self, stack: ExitStack) -> None:
        self.out, self.into = os.pipe()
        self._open = {self.out, self.into}
        stack.callback(self.close)

    def close_into(self) -> None:
        self._close(self.into)

    def close(self) -> None:
        for end in list(self._open):
            self._close(end)

    def _close(self, end: int) -> None:
        self._open.remove(end)
        os.close(end)


def _modules(*names: str) -> dict[str, str]:
    return {f"{PACKAGE}.{name}": (HERE / f"{name}.py").read_text() for name in names}


def _read(verdict: int, examining: Cell) -> str | None:
    """What the examiner wrote; None where it did not finish in time."""
    said = b""
    while select.select([verdict], [], [], examining.left_s)[0]:
        chunk = os.read(verdict, 4096)
        if not chunk:
            return said.decode("utf-8", "replace")
        said += chunk
    return None


def _verdict(said: str | None, nonce: str, solving: Cell, seconds: float) -> Verdict:
    if said is None:
        return Verdict(False, "no verdict in time", seconds)
    if secrets.compare_digest(said.encode(), nonce.encode()):
        return Verdict(True, "", seconds)
    if said.startswith(UNUSABLE):
        raise DatasetError(f"the tests cannot be used, {said.removeprefix(UNUSABLE)}")
    printed = (solving.output() + solving.errors())[-300:].strip()
    return Verdict(
        False, f"{said.removeprefix('failed ') or 'the examiner was ended'}{f'; it printed: {printed}' if printed else ''}", seconds
    )


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
