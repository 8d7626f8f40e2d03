"""The command line from outside: help, errors, JSON. Work itself is tested where it is done."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rheostat import __version__
from rheostat.cli import app

COMMANDS = [
    ["engine", "start"], ["engine", "stop"], ["engine", "status"], ["engine", "logs"], ["collect"], ["train"], ["report"],
    ["promote"], ["rollback"], ["ship"], ["up"], ["serve"], ["demo"], ["doctor"],
    ["guarantee"], ["backtest"], ["backtest-stopping"], ["ope"], ["train-verifier"], ["import"], ["ask"], ["memory"],
    ["sweep"],
]  # fmt: skip
REPORTING = [
    ["engine", "start"], ["engine", "status"], ["collect"], ["train"], ["report"], ["promote"], ["ship"], ["demo"], ["guarantee"],
    ["backtest"], ["backtest-stopping"], ["ope"], ["train-verifier"], ["import"], ["ask"], ["memory"], ["doctor"], ["sweep"],
]  # fmt: skip


def run(*arguments: str, cwd=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "rheostat", *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])

    assert result.exit_code == 0
    assert f"Example: rheostat {' '.join(command)}" in result.output


@pytest.mark.parametrize("command", REPORTING, ids=" ".join)
def test_every_command_that_reports_has_json(command: list[str]) -> None:
    assert "--json" in CliRunner().invoke(app, [*command, "--help"]).output


def test_no_arguments_show_the_commands() -> None:
    assert all(command[0] in CliRunner().invoke(app, []).output for command in COMMANDS)


def test_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == __version__


def test_status_of_no_engines_is_an_empty_list_in_json(tmp_path) -> None:
    result = run("engine", "status", "--state", str(tmp_path), "--json", "-")

    assert json.loads(result.stdout) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("engine", "start", "pocket-large", "--timeout", "0"), "a model is named with --model pocket-large"),
        (("engine", "logs", "--model", "smol"), "no log of an engine called 'smol'"),
        (("train", "missing.parquet"), "missing.parquet"),
        (("report",), "run rheostat train LOG first"),
        (("train-verifier", "missing.parquet"), "no log at missing.parquet"),
        (("serve", "--config", "nowhere.toml"), "no config file at nowhere.toml"),
        (("ask", "2+2?", "--strategy", "magic"), "unknown strategy 'magic'"),
        (("ask", "2+2?", "--strategy", "few_shot"), "no task memory at"),
        (("memory", "nothing-like-it"), "nothing-like-it"),
        (("sweep",), "nothing to sweep"),
        (("sweep", "--axis", "luck"), "unknown axis 'luck'"),
        (("sweep", "--axis", "examples", "--n", "2"), "no task memory at"),
        (("collect", "--backend", "pocket"), "is not MODEL=URL"),
        (("collect", "--tasks", "nothing-like-it"), "nothing-like-it"),
        (("promote", "--tracking", "http://127.0.0.1:9"), "MLflow does not answer"),
        (("ship", "--tracking", "http://127.0.0.1:9"), "outcomes.db"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_no_traceback(arguments: tuple[str, ...], words: str, tmp_path) -> None:
    result = run(*arguments, cwd=tmp_path)

    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [("memory", "pocket", "--n", "20"), ("engine", "start", "--timeout", "1")], ids=" ".join)
def test_a_place_that_cannot_be_written_is_named_and_no_traceback(arguments: tuple[str, ...], tmp_path) -> None:
    (tmp_path / "taken").write_text("a file")
    result = run(*arguments, "--state", "taken/state", cwd=tmp_path)

    assert result.returncode == 1
    assert "rheostat: taken" in result.stderr
    assert "name another place" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_is_no_file_for_json(tmp_path) -> None:
    result = run("engine", "status", "--json", ".", cwd=tmp_path)

    assert result.returncode == 2
    assert "is a directory" in result.stderr


def test_an_unknown_config_key_lists_the_known_ones(tmp_path) -> None:
    (tmp_path / "rheostat.toml").write_text('[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "a"\n[server]\nprot = 1\n')
    result = run("serve", cwd=tmp_path)

    assert result.returncode == 1
    assert "prot" in result.stderr
    assert "port" in result.stderr
