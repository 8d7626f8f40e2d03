"""What commands share."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from rheostat.commands.common import PIPED_WIDTH, Mlflow, progress, show, track
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


def test_a_title_is_as_wide_as_the_terminal_however_narrow_its_table(capsys):
    show("do not route: " + "as the numbers say " * 6, ["a"], [[1]])
    assert capsys.readouterr().out.splitlines()[0].startswith("do not route: " + "as the numbers say " * 5)


def test_a_title_wider_than_the_terminal_wraps_at_words(capsys):
    show("word " * 60, ["a"], [[1]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= PIPED_WIDTH
    assert lines[0].split() == ["word"] * 28


@pytest.mark.parametrize("text", ["[/x] is not there", "a[red]b", "ended with :a:", "[link=http://x]y"])
def test_what_looks_like_markup_is_shown_as_it_is(text, capsys):
    show(f"title {text}", [f"column {text}"], [[text]])
    assert capsys.readouterr().out.count(text) == 3


def test_progress_leaves_nothing_in_a_file(capsys):
    with progress("training") as advance:
        advance("read", 0.5)
    assert capsys.readouterr() == ("", "")
