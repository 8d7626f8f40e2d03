"""The command line: the only place where the packages meet. Each command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys

import typer

from rheostat import __version__
from rheostat.commands import ask, backtest, collect, demo, doctor, engine, evidence, loop, memory, serve, sweep, tables, train, verifier
from rheostat.data.errors import RheostatError

app = typer.Typer(
    name="rheostat",
    help="Spend, on every request, the least inference compute that reaches the accuracy asked for.",
    epilog="A first look at everything: make demo. State is kept in ./.rheostat unless --state says otherwise.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(engine.app, name="engine")
app.command("collect")(collect.collect)
app.command("import")(tables.import_logs)
app.command("train")(train.train)
app.command("report")(train.report)
app.command("train-verifier")(verifier.train_verifier)
app.command("ope")(evidence.ope)
app.command("backtest-stopping")(evidence.backtest_stopping)
app.command("guarantee")(evidence.guarantee)
app.command("backtest")(backtest.backtest)
app.command("promote")(loop.promote)
app.command("rollback")(loop.rollback)
app.command("ship")(loop.ship)
app.command("up")(loop.up)
app.command("serve")(serve.serve)
app.command("ask")(ask.ask)
app.command("sweep")(sweep.sweep)
app.command("memory")(memory.memory)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Spend, on every request, the least inference compute that reaches the accuracy asked for."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


# What these libraries read from the environment only: bounds instead of minutes of retries, and no bars or notes of theirs.
LIBRARY_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "TQDM_DISABLE": "1",
}


def main() -> None:
    """Run; what Rheostat or the disk refuses is one message on standard error and status 1, an interrupt is 130."""
    for name, value in LIBRARY_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except RheostatError as error:
        print(f"rheostat: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"rheostat: {error.filename}: {error.strerror}: name another place, or make room for it there", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
