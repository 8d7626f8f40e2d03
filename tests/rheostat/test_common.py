"""What commands share."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from rheostat.commands.common import Mlflow, track
from rheostat.training import tracking

app = typer.Typer()


@app.command("measure")
def measure(context: typer.Context, target: float = 0.5, mlflow: Mlflow = None) -> None:
    track(context, mlflow, {"value": 1.0})


@pytest.fixture
def logged(monkeypatch):
    """What would go to MLflow."""
    calls = []

    def log_report(uri, command, report, *, params, digests):
        calls.append((uri, command, report, params, digests))
        return "run-1"

    monkeypatch.setattr(tracking, "log_report", log_report)
    return calls


@pytest.mark.parametrize("option", ["--mlflow", "--tracking"])
def test_a_command_is_logged_with_what_it_was_told(option, logged):
    result = CliRunner().invoke(app, ["--target", "0.8", option, "http://here:1"])
    assert "logged to http://here:1 as run run-1" in result.output
    assert logged == [("http://here:1", "measure", {"value": 1.0}, {"target": 0.8}, {})]


def test_without_an_address_nothing_is_logged_or_said(logged):
    result = CliRunner().invoke(app, [])
    assert (result.output, logged) == ("", [])


def test_that_mlflow_is_away_is_said_and_fails_nothing():
    result = CliRunner().invoke(app, ["--mlflow", "http://127.0.0.1:9"])
    assert result.exit_code == 0
    assert "not logged: MLflow does not answer at http://127.0.0.1:9" in result.output
