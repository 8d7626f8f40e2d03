"""Processes that outlive the command that started them: found again by pid and start time, ended as a whole group.

Knows nothing of what runs in them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from rheostat.data.errors import EngineError

STOP_TIMEOUT_S = 20.0


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process group's leader. The start time tells a reused pid from ours."""

    pid: int
    started_s: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this pid now."""
        return cls(pid=pid, started_s=psutil.Process(pid).create_time())

    @property
    def is_alive(self) -> bool:
        """Whether the very process that was started still runs."""
        try:
            process = psutil.Process(self.pid)
            return bool(process.create_time() == self.started_s and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def end(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ask the process group to end, then make it; harmless when it is gone."""
        if not self.is_alive:
            return
        leader = psutil.Process(self.pid)
        members = [leader, *leader.children(recursive=True)]
        signal_group(self.pid, signal.SIGTERM)
        _, left = psutil.wait_procs(members, timeout=timeout_s)
        if left:
            signal_group(self.pid, signal.SIGKILL)
            psutil.wait_procs(left, timeout=timeout_s)


class Detached(subprocess.Popen[bytes]):
    """A child that is meant to outlive its parent: forgetting it is no mistake to warn of."""

    def __del__(self) -> None:
        """Nothing to clean up."""


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Process:
    """Start a process in a group of its own, its output in a file, with nothing on its standard input."""
    with log.open("wb") as output:
        child = Detached(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    return Process.of(child.pid)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the whole group that a process leads; harmless when it is gone."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


class Kept:
    """Named processes written down in a folder, one JSON file each, so that a later command can end them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, process: Process) -> None:
        """Write a process down."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.json").write_bytes(msgspec.json.encode(process))

    def stop_all(self) -> list[str]:
        """End all that still run and forget them; returns the names of those that ran."""
        ended = []
        for path in sorted(self.folder.glob("*.json")):
            process = msgspec.json.decode(path.read_bytes(), type=Process)
            if process.is_alive:
                process.end()
                ended.append(path.stem)
            path.unlink()
        return ended


def require_port(port: int) -> int:
    """The port, if nobody listens there.

    Raises:
        EngineError: it is in use.
    """
    if not is_free(port):
        raise EngineError(f"port {port} on 127.0.0.1 is in use: choose another with --port, or stop what listens there")
    return port


def free_port(first: int = 8100, last: int = 8199, *, taken: frozenset[int] = frozenset()) -> int:
    """The first port of the range that nobody listens on and that is not `taken` by one that is about to.

    Raises:
        EngineError: all are in use.
    """
    for port in range(first, last + 1):
        if port not in taken and is_free(port):
            return port
    raise EngineError(f"all ports from {first} to {last} on 127.0.0.1 are in use: choose one with --port")


def is_free(port: int) -> bool:
    """Whether nobody listens on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def tail(path: Path, lines: int) -> str:
    """The last lines of a file, read from its last 64 KB."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65_536))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:])
