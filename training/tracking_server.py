"""A real MLflow server as a child process, on SQLite and a local artifact folder, for one machine.

Owns its process group and nothing else: `stop` ends exactly what `start` began.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from rheostat.data.errors import RegistryError
from rheostat.policies.processes import Detached, is_free, signal_group
from rheostat.training.tracking import is_healthy

START_TIMEOUT_S = 240.0  # it takes about 10 s; a starved machine has taken two minutes
STOP_TIMEOUT_S = 15.0
_POLL_S = 0.1
_LOG_LINES = 20

# The server's own job runner would start more processes, for features that are not used here.
_SERVER_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}


class TrackingServer:
    """MLflow with its database, artifacts and log in one folder.

    Args:
        folder: made if missing; holds `mlflow.db`, `artifacts/`, `mlflow.log` and `mlflow.pid`.
        port: 0 picks a free one.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = port or _free_port()
        self._process: Detached | None = None

    @property
    def uri(self) -> str:
        """The tracking URI."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the server, which leads its own group.

        Raises:
            RegistryError: it is not running.
        """
        if self._process is None:
            raise RegistryError(f"MLflow in {self.folder} is not running: start it first")
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """What the server prints."""
        return self.folder / "mlflow.log"

    def start(self, timeout_s: float = START_TIMEOUT_S) -> TrackingServer:
        """Start and wait until it answers.

        Raises:
            RegistryError: the port is taken, the server died (with the end of its log), or it did not answer in time.
        """
        if not is_free(self.port):
            raise RegistryError(f"port {self.port} is in use: choose another for MLflow, or stop what listens there")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = Detached(
                self._command(), stdout=log, stderr=log, env={**os.environ, **_SERVER_ENVIRONMENT}, start_new_session=True
            )
        (self.folder / "mlflow.pid").write_text(str(self._process.pid))
        self._wait(self._process, timeout_s)
        return self

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the server's process group: asked first, killed after `timeout_s`. Harmless when it is not running."""
        if self._process is None:
            return
        signal_group(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        (self.folder / "mlflow.pid").unlink(missing_ok=True)

    def __enter__(self) -> TrackingServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _command(self) -> list[str]:
        folder = self.folder.resolve()
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--serve-artifacts"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ]

    def _wait(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_healthy(self.uri):
            if process.poll() is not None:
                self._process = None
                raise RegistryError(f"MLflow ended with code {process.returncode}; the end of {self.log_path}:\n{self._log_end()}")
            if time.monotonic() > deadline:
                self.stop()
                raise RegistryError(f"MLflow did not answer within {timeout_s:.0f} s; the end of {self.log_path}:\n{self._log_end()}")
            time.sleep(_POLL_S)

    def _log_end(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
