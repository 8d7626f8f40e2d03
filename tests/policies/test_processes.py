from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from rheostat.data.errors import EngineError
from rheostat.policies.processes import Kept, Process, free_port, require_port, spawn, tail

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
IGNORES_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
STUBBORN = [sys.executable, "-c", IGNORES_SIGTERM]


def test_a_kept_process_is_ended_once_and_forgotten(tmp_path) -> None:
    record = spawn(SLEEP, tmp_path / "log")
    kept = Kept(tmp_path / "kept")
    kept.add("sidecar", record)

    assert kept.stop_all() == ["sidecar"]
    assert not record.is_alive
    assert kept.stop_all() == []


def test_a_process_that_ignores_sigterm_is_killed(tmp_path) -> None:
    record = spawn(STUBBORN, tmp_path / "log")
    while "ready" not in tail(tmp_path / "log", 1):
        assert record.is_alive

    record.end(timeout_s=0.2)

    assert not record.is_alive


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


def test_a_spawned_process_writes_to_its_log_and_may_be_forgotten(tmp_path) -> None:
    record = spawn([sys.executable, "-c", "print('hello', flush=True); import time; time.sleep(600)"], tmp_path / "log")
    try:
        while "hello" not in tail(tmp_path / "log", 1):
            assert record.is_alive
    finally:
        record.end()

    assert not record.is_alive
