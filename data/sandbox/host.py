"""The outside of the fence: starts cells, watches the clock, and reads what is left when they have ended.

How strong the fence is depends on the kernel, and is said: `namespaces` (own file system, network, processes and users)
or `process` (limits, an empty environment and, for root, an unprivileged user). The weaker one is used only where that
was allowed. Knows nothing of grading.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import psutil

from rheostat.data.errors import SandboxError
from rheostat.data.sandbox.limits import Limits

Isolation = Literal["namespaces", "process"]

CELL = Path(__file__).with_name("cell.py")
LINKER_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
# Beyond what systems hand out; each cell takes one at random, so that its processes count alone.
FIRST_UID, UIDS, NOBODY = 2_000_000_000, 100_000_000, 65_534
GRACE_S = 2.0

# The guest's modules come in over standard input, because a cell sees no file but the interpreter's.
BOOTSTRAP = """\
import json, os, sys, types
orders = json.loads(os.fdopen(0, "rb").read())
os.open("/dev/null", os.O_RDONLY)
for name, source in orders["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
module.main(**orders["arguments"])
"""


class Ran(NamedTuple):
    """How a program ended: its status (128 and the number of a signal that ended it), what was kept of what it printed, if it was late."""

    status: int
    output: str
    errors: str
    timed_out: bool
    seconds: float


class Sandbox:
    """Starts cells.

    Args:
        limits: of every cell.
        allow_weak: also run where the kernel gives no namespaces; network and readable files are then not fenced off.
    """

    def __init__(self, limits: Limits | None = None, *, allow_weak: bool = False) -> None:
        self.limits = limits or Limits()
        self.allow_weak = allow_weak

    @property
    def isolation(self) -> Isolation:
        """How strong the fence is on this machine.

        Raises:
            SandboxError: there are no namespaces and a weak fence was not allowed, or there is none at all.
        """
        found = strongest_isolation()
        if found == "process" and not self.allow_weak:
            raise SandboxError("this kernel gives no namespaces for the sandbox: allow them, or set sandbox.allow_weak = true")
        return found

    def run(self, code: str, *, stdin: str = "") -> Ran:
        """Run a Python program with the standard library and give what it printed, at most `limits.file_kb` of each stream.

        Raises:
            SandboxError: no cell could be made.
        """
        module = Path(__file__).with_name("program.py").read_text()
        with (
            _readable(stdin.encode("utf-8", "surrogatepass")) as given,
            self.cell({"program": module}, {"code": code, "stdin": given}, (given,)) as cell,
        ):
            return cell.wait()

    @contextmanager
    def cell(self, modules: Mapping[str, str], arguments: Mapping[str, object], fds: Sequence[int] = ()) -> Iterator[Cell]:
        """A running guest; whatever is left of it is killed at the end.

        Args:
            modules: name -> source, loaded in this order; `main(**arguments)` of the last is called.
            arguments: what JSON can say.
            fds: file descriptors it inherits, under the same numbers.
        """
        payload = json.dumps({"modules": list(modules.items()), "arguments": arguments}).encode()
        with tempfile.TemporaryDirectory(prefix="rheostat-cell-") as root:
            cell = _start(payload, Path(root), self.limits, self.isolation, fds)
            try:
                yield cell
            finally:
                cell.end()
            cell.require_fence()


class Cell:
    """One running guest."""

    def __init__(self, process: subprocess.Popen[bytes], output: int, errors: int, refusal: int, limits: Limits) -> None:
        self._process = process
        self._output = output
        self._errors = errors
        self._refusal = refusal
        self._refused = ""
        self._limits = limits
        self._started_s = time.monotonic()

    @property
    def refused(self) -> str:
        """Why the fence could not be put up; known once the cell has ended, empty where it stood."""
        return self._refused

    @property
    def left_s(self) -> float:
        """Seconds of wall clock left to it."""
        return max(0.0, self._limits.wall_s - (time.monotonic() - self._started_s))

    def wait(self) -> Ran:
        """How it ended; it is killed when its time is up."""
        timed_out = False
        try:
            self._process.wait(self.left_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            self._kill()
        return Ran(self._process.returncode, self.output(), self.errors(), timed_out, time.monotonic() - self._started_s)

    def require_fence(self) -> None:
        """Refuse what came of a cell that has ended without its fence ever having stood.

        Raises:
            SandboxError: the fence could not be put up, so nothing was run.
        """
        if self._refused:
            raise SandboxError(
                f"a cell could not be closed: {self._refused}: allow namespaces on this machine, or set sandbox.allow_weak = true"
            )

    def output(self) -> str:
        """What it has printed so far."""
        return self._kept(self._output)

    def errors(self) -> str:
        """What it has said on standard error so far."""
        return self._kept(self._errors)

    def end(self) -> None:
        """Kill whatever is left."""
        self._kill()
        self._refused = os.read(self._refusal, 500).decode("utf-8", "replace")
        for fd in (self._refusal, self._output, self._errors):
            os.close(fd)

    def _kept(self, fd: int) -> str:
        return os.pread(fd, self._limits.file_kb * 1024, 0).decode("utf-8", "replace")

    def _kill(self) -> None:
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@lru_cache(maxsize=1)
def strongest_isolation() -> Isolation:
    """What this kernel gives, found by trying it.

    Raises:
        SandboxError: not even an unprivileged process can be started.
    """
    refusal = ""
    payload = json.dumps({"modules": [["probe", "def main(): print('ready')"]], "arguments": {}}).encode()
    for isolation in get_args(Isolation):
        with tempfile.TemporaryDirectory(prefix="rheostat-cell-") as root:
            cell = _start(payload, Path(root), Limits(), isolation, ())
            ran = cell.wait()
            cell.end()
        if ran.output == "ready\n":
            return isolation  # type: ignore[no-any-return]
        refusal = cell.refused or ran.errors
    raise SandboxError(f"no cell can be made on this machine ({refusal[-200:]}): is {sys.executable} readable for everyone?")


def _start(payload: bytes, root: Path, limits: Limits, isolation: Isolation, fds: Sequence[int]) -> Cell:
    output, errors = os.memfd_create("output"), os.memfd_create("errors")
    refusal, refuse = os.pipe()
    try:
        with _readable(payload) as inside:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(CELL), json.dumps(_orders(root, limits, isolation, refuse))],
                stdin=inside, stdout=output, stderr=errors, env={}, pass_fds=(*fds, refuse), start_new_session=True,
            )  # fmt: skip
    except BaseException:
        for fd in (output, errors, refusal):
            os.close(fd)
        raise
    finally:
        os.close(refuse)
    return Cell(process, output, errors, refusal, limits)


@contextmanager
def _readable(content: bytes) -> Iterator[int]:
    """A file descriptor to read it from, from its beginning."""
    fd = os.memfd_create("given")
    try:
        os.pwrite(fd, content, 0)
        yield fd
    finally:
        os.close(fd)


def _orders(root: Path, limits: Limits, isolation: Isolation, refuse: int) -> dict[str, object]:
    python = os.path.realpath(sys.executable)
    return {
        "namespaces": isolation == "namespaces",
        "root": str(root),
        "visible": _visible(),
        "scratch_mb": limits.scratch_mb,
        "uid": _uid_of_its_own(),
        "refusal": refuse,
        "limits": _resources(limits, isolation),
        "command": [python, "-I", "-S", "-X", "utf8", "-c", BOOTSTRAP],
    }


def _uid_of_its_own() -> int | None:
    """A user that nothing else has, which root alone can become; `nobody` where this container has few users."""
    if os.getuid() != 0:
        return None
    mapped = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())
    return FIRST_UID + secrets.randbelow(UIDS) if mapped > FIRST_UID + UIDS else NOBODY


def _visible() -> list[str]:
    """The interpreter, its standard library and the libraries it links to; nothing of what is installed beside them."""
    folders = [folder for folder in LINKER_FOLDERS if Path(folder).exists()]
    prefix = os.path.realpath(sys.base_prefix)
    inside = [folder for folder in folders if Path(folder).is_relative_to(prefix)]
    return [*(folder for folder in folders if folder not in inside), prefix]


def _resources(limits: Limits, isolation: Isolation) -> dict[str, int]:
    return {
        "RLIMIT_CPU": limits.cpu_s,
        "RLIMIT_AS": limits.memory_mb * 1024 * 1024,
        "RLIMIT_FSIZE": limits.file_kb * 1024,
        "RLIMIT_NPROC": limits.processes + _already_running(isolation),
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }


def _already_running(isolation: Isolation) -> int:
    """Tasks that count against the same limit: a cell without a user of its own shares it with the whole account."""
    if isolation == "namespaces" or os.getuid() == 0:
        return 0
    total = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        uids = process.info["uids"]
        total += process.info["num_threads"] or 0 if uids and uids.real == os.getuid() else 0
    return total
