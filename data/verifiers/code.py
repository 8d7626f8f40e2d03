"""The verifier that runs code: unit tests, or inputs and expected outputs, in the sandbox. Off without a sandbox."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from rheostat.data.errors import ConfigError, DatasetError
from rheostat.data.sandbox import Sandbox, Verdict, run_cases, run_tests
from rheostat.data.schema import AnswerKind

SANDBOX_OFF = "the verifier 'python_tests' runs code of a model, and the sandbox is off: set sandbox.enabled = true in the config"
_FENCED = re.compile(r"(?<![^\s:])`{3,}([^\n`]*)\n(.*?)(?:```|\Z)", re.DOTALL)
_LANGUAGE = re.compile(r"[a-z0-9]+")
_PYTHON = ("python", "python3", "py", "py3")


class CodeReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a solution must pass: `tests` in Python that may use `names` of it, or `cases` of (input, output) as a program."""

    tests: str = ""
    names: tuple[str, ...] = ()
    cases: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()


@dataclass(frozen=True, slots=True)
class PythonTests:
    """All tests pass. What is the code of a reply, `code_in` says."""

    name: ClassVar[str] = "python_tests"
    reads_reply: ClassVar[bool] = True
    is_slow: ClassVar[bool] = True
    sandbox: Sandbox | None = None

    def verify(self, question: str, answer: str | None, reference: str | None, kind: AnswerKind) -> float | None:  # noqa: ARG002
        """1.0 where every test passes, else 0.0.

        Raises:
            ConfigError: the sandbox is off.
            DatasetError: the reference holds no tests, nothing in them can fail, or they ask for what is not there.
            SandboxError: this machine cannot run code as safely as was asked.
        """
        if reference is None:
            return None
        wanted = code_reference(reference)
        if answer is None:
            return 0.0
        return float(self._verdict(code_in(answer), wanted).passed)

    def _verdict(self, code: str, wanted: CodeReference) -> Verdict:
        if self.sandbox is None:
            raise ConfigError(SANDBOX_OFF)
        if wanted.cases:
            return run_cases(self.sandbox, code, wanted.cases)
        return run_tests(self.sandbox, code, wanted.tests, names=wanted.names)


def code_reference(reference: str) -> CodeReference:
    """The tests of a reference: what `str(CodeReference)` wrote, or Python source as it is.

    Raises:
        DatasetError: there are none in it.
    """
    try:
        found = msgspec.json.decode(reference, type=CodeReference)
    except msgspec.DecodeError as error:
        if reference.lstrip().startswith("{"):
            raise DatasetError(f"{reference[:80]!r} is no reference of python_tests ({error}): give tests, names or cases") from error
        found = CodeReference(tests=reference)
    if not found.tests.strip() and not found.cases:
        raise DatasetError("the reference holds no tests, so that everything would pass: give Python tests, or cases of input and output")
    return found


def code_in(reply: str) -> str:
    """The last fenced block of Python in a reply, or else of no language; the last of any, or all of it, where there is none.

    What stands behind the code is often what it prints, or a command. A block that is never closed ends with the reply.
    """
    blocks = [(tag.strip().lower(), code) for tag, code in _FENCED.findall(reply)]
    python = [code for tag, code in blocks if (language := _LANGUAGE.search(tag)) and language[0] in _PYTHON]
    plain = [code for tag, code in blocks if not tag]
    return str([reply, *(code for _, code in blocks), *plain, *python][-1])
