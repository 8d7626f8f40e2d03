"""The engine command against the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request

import pytest

from rheostat.data.errors import EngineError
from rheostat.policies.engine import Engines
from rheostat.policies.weights.smol import smol_folder
from tests.e2e.conftest import Stack


def test_status_lists_both_engines_as_ready(stack: Stack) -> None:
    command = [sys.executable, "-m", "rheostat", "engine", "status", "--state", str(stack.state), "--json", "-"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    assert {(engine["name"], engine["state"]) for engine in found} == {("pocket", "ready"), ("pocket-large", "ready")}


def test_starting_an_engine_that_runs_returns_the_running_one(stack: Stack) -> None:
    engines = Engines(stack.state / "engines")

    assert engines.start("pocket") == engines.find("pocket")


def test_a_port_in_use_is_named(stack: Stack) -> None:
    port = int(stack.engines["pocket"].rsplit(":", 1)[1])

    with pytest.raises(EngineError, match=f"port {port} on 127.0.0.1 is in use"):
        Engines(stack.state / "other").launch("pocket", port=port)


def test_an_engine_that_dies_while_starting_shows_the_end_of_its_log(stack: Stack) -> None:
    engines = Engines(stack.state / "broken")

    with pytest.raises(EngineError, match="died while starting"):
        engines.start(str(stack.state / "no-such-model"), timeout_s=120)
    assert engines.status() == []


def test_the_engine_log_can_be_read(stack: Stack) -> None:
    assert "pocket" in Engines(stack.state / "engines").log("pocket", 500)


def test_pocket_models_answer_through_the_engines_own_api(stack: Stack) -> None:
    body = {"model": "pocket", "messages": [{"role": "user", "content": "What is 2 + 3? Answer only."}], "temperature": 0, "max_tokens": 8}
    request = urllib.request.Request(
        f"{stack.engines['pocket']}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = json.loads(answer.read())["choices"][0]["message"]["content"]

    assert text.strip().isdigit()


def test_smol_is_converted_from_its_package_and_kept(tmp_path) -> None:
    folder = smol_folder(tmp_path)
    before = (folder / "model.safetensors").stat().st_mtime_ns

    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert (smol_folder(tmp_path) / "model.safetensors").stat().st_mtime_ns == before
