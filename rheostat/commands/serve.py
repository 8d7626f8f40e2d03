"""`rheostat serve`: the sidecar, with the shipper beside it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import CONFIG, STATE, ConfigFile, State, load_config

if TYPE_CHECKING:
    from rheostat.serving.config import Config


def serve(
    config: ConfigFile = CONFIG,
    state: State = STATE,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to bind instead of the config's.")] = None,
    ship: Annotated[bool, typer.Option(help="Also ship outcomes to MLflow, in a process of its own.")] = True,
) -> None:
    """Serve the OpenAI API until Ctrl-C.

    The sidecar decides per request and runs the decision on the model servers of the config.

    Example: rheostat serve --config rheostat.toml
    """
    import logging
    import os

    import msgspec

    from rheostat.equipment import equipped
    from rheostat.serving import server

    loaded = equipped(load_config(config, state), state)
    if port is not None:
        loaded = msgspec.structs.replace(loaded, server=msgspec.structs.replace(loaded.server, port=port))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with shipper(loaded) if ship else contextlib.nullcontext():
        path = config if config.exists() else None
        server.serve(loaded, environ=os.environ, path=path, on_ready=lambda url: typer.echo(f"serving on {url}"))


@contextlib.contextmanager
def shipper(config: Config) -> Iterator[None]:
    """A shipper process for the sidecar's store, where MLflow is configured; it ships once more when told to end."""
    if not config.mlflow.tracking_uri:
        yield
        return
    command = [sys.executable, "-m", "rheostat.training.ship", "--store", config.store.path]
    process = subprocess.Popen([*command, "--tracking-uri", config.mlflow.tracking_uri, "--with-parent"], start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
