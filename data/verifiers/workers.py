"""Worker processes for checks that an answer can make endless: each is killed when it is late, and replaced.

A thread could not be killed, and the time-outs of the libraries are signals, which work in the main thread only. Knows
nothing of what is asked.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import select
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from rheostat.data.errors import ConfigError, RheostatError

PROGRAM = "rheostat.data.verifiers.work"
TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 120.0  # importing SymPy takes seconds, and more on a busy machine


class TaskError(RheostatError, ValueError):
    """The reference of a question cannot be used: says why."""


class Workers:
    """At most `n` processes, started when they are needed; may be used from several threads.

    Args:
        n: how many.
        timeout_s: seconds for one question.
    """

    def __init__(self, n: int = 2, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for _ in range(n):
            self._idle.put(_Worker())
        atexit.register(self.close)

    def ask(self, task: str, answer: str, reference: str) -> float | None:
        """The score; None where the worker was late, died, or could not tell.

        Raises:
            TaskError: the reference cannot be used.
            ConfigError: a package that the task needs is not installed.
        """
        worker = self._idle.get()
        try:
            worker.load(task)
            said = worker.ask([task, answer, reference], self._timeout_s)
        finally:
            self._idle.put(worker)
        if said is None:
            return None
        if "refused" in said:
            raise TaskError(said["refused"])
        score: float | None = said["score"]
        return score

    def close(self) -> None:
        """End the processes that are idle; they start again when they are needed."""
        for worker in list(self._idle.queue):
            worker.end()


class _Worker:
    """One process, started by the first question."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._loaded: set[str] = set()

    def load(self, task: str) -> None:
        """Have it import what the task needs."""
        self._forget_the_dead()
        if task in self._loaded:
            return
        said = self.ask([task], LOAD_TIMEOUT_S)
        if said is None:
            raise ConfigError(f"the worker of the verifier {task!r} did not start within {LOAD_TIMEOUT_S:g} s: is memory short?")
        if "missing" in said:
            raise ConfigError(f"the verifier {task!r} needs the package {said['missing']}: pip install 'rheostat[verify]'")
        self._loaded.add(task)

    def ask(self, question: list[str], timeout_s: float) -> dict[str, Any] | None:
        """What it says, or None where it is late or dies, and then it is killed."""
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            said = _line(process, time.monotonic() + timeout_s)
        except BrokenPipeError:
            said = None
        if said is None:
            self.end()
            return None
        content: dict[str, Any] = json.loads(said)
        return content

    def end(self) -> None:
        """Kill it, if it runs."""
        process, self._process, self._loaded = self._process, None, set()
        if process is None:
            return
        process.kill()
        # What was written and not taken cannot be flushed to the dead any more.
        with suppress(OSError, ValueError), process:  # closes its pipes and waits
            pass

    def _forget_the_dead(self) -> None:
        """Whoever was killed while idle, as when memory ran short, is replaced and not asked."""
        if self._process is not None and self._process.poll() is not None:
            self.end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        return self._process


def _line(process: subprocess.Popen[bytes], until_s: float) -> bytes | None:
    """The next line of its output; None where it does not come in time, or the process ended."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        left_s = until_s - time.monotonic()
        if left_s <= 0 or not select.select([process.stdout], [], [], left_s)[0]:
            return None
        chunk = os.read(process.stdout.fileno(), 65_536)
        if not chunk:
            return None
        line += chunk
    return line


WORKERS = Workers()
