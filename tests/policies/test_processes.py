from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from rheostat.data.errors import EngineError
from rheostat.policies.processes import Kept, Process, free_port, require_port, tail

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
IGNORES_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
STUBBORN = [sys.executable, "-c", IGNORES_SIGTERM]


def test_a_kept_process_is_ended_once_and_forgotten(tmp_path) -> None:
    process = subprocess.Popen(SLEEP, start_new_session=True)
    kept = Kept(tmp_path)
    kept.add("sidecar", process.pid)
    record = Process.of(process.pid)

    assert kept.stop_all() == ["sidecar"]
    assert not record.is_alive
    assert kept.stop_all() == []


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    process = subprocess.Popen(STUBBORN, start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()

    record = Process.of(process.pid)
    record.end(timeout_s=0.2)

    assert not record.is_alive
    process.stdout.close()


def test_ending_a_process_that_is_gone_is_harmless() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    record = Process.of(process.pid)
    process.wait()
    record.end()

    assert not record.is_alive


def test_a_port_in_use_is_refused_and_skipped() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(EngineError, match=f"port {port}"):
            require_port(port)
        with pytest.raises(EngineError, match="are in use"):
            free_port(port, port)
    assert require_port(port) == port


def test_tail_gives_the_last_lines_of_a_large_file(tmp_path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {i}\n" for i in range(50_000)))

    assert tail(path, 2) == "line 49998\nline 49999"
    assert "no log" in tail(tmp_path / "missing", 2)
