"""The loop through MLflow: `rheostat up`, `ship`, `promote`, `rollback`."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import (
    CHAMPION_FOLDER,
    CONFIG,
    STATE,
    ConfigFile,
    Json,
    Seed,
    State,
    TrackingUri,
    embedded_mlflow,
    load_config,
    show,
    tracking_uri,
)

if TYPE_CHECKING:
    from rheostat.serving.config import Config
    from rheostat.training.registry import Registry

REFUSED = 3  # the status of a promotion that the evidence does not bear


def up(
    state: State = STATE,
    port: Annotated[int, typer.Option(help="Loopback port.")] = 5000,
) -> None:
    """Run an MLflow server until Ctrl-C.

    Example: rheostat up --port 5000
    """
    import signal
    import threading

    from rheostat.training.tracking_server import TrackingServer

    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    server = TrackingServer(state / "mlflow", port).start()
    try:
        typer.echo(f"MLflow on {server.uri}, log in {server.log_path}")
        done.wait()
    finally:
        server.stop()


def ship(
    config: ConfigFile = CONFIG,
    state: State = STATE,
    store: Annotated[Path | None, typer.Option(help="Outcome store; the config's when left out.")] = None,
    tracking: TrackingUri = None,
    json: Json = None,
) -> None:
    """Ship a sidecar's outcomes to MLflow.

    Each is shipped once, whatever dies in between.

    Example: rheostat ship --tracking http://127.0.0.1:5000
    """
    from rheostat.training.ship import NotAllShippedError, ship_once

    loaded = load_config(config, state)
    failure = None
    try:
        shipped = ship_once(store or Path(loaded.store.path), tracking_uri(tracking, loaded, state))
    except NotAllShippedError as error:
        shipped, failure = error.shipped, error
    rows = [[s.segment_id, s.rows, s.run_id, "new" if s.logged else "was there"] for s in shipped]
    show("segments shipped", ["segment", "rows", "MLflow run", ""], rows, json=json, value=shipped)
    if failure is not None:
        raise failure


def promote(
    version: Annotated[int | None, typer.Argument(help="Version to promote; the newest when left out.")] = None,
    config: ConfigFile = CONFIG,
    state: State = STATE,
    tracking: TrackingUri = None,
    force: Annotated[bool, typer.Option(help="Promote whatever the evidence says; it is written down.")] = False,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Make a version champion, or say why not.

    It must stand against the best fixed action and against the champion, on held-out queries: be more useful (95% interval
    above zero), or else cheaper and surely less accurate by 1 point at most. The second does not say that it is better.

    The status is 0 where the version is the champion now, 3 where it was refused, 1 where it could not be judged.

    Example: rheostat promote
    """
    from msgspec.structs import asdict

    from rheostat.training import promote as promotion

    loaded = load_config(config, state)
    registry = _registry(tracking, loaded, state)
    verdict = promotion.promote(registry, version, prices=loaded.prices, force=force, seed=seed)
    rows = [[verdict.challenger, verdict.word, verdict.champion or "none"]]
    show(verdict.reason, ["version", "verdict", "champion now"], rows, json=json, value={**asdict(verdict), "verdict": verdict.word})
    _follow(registry, loaded, state)
    if verdict.champion != verdict.challenger:
        raise typer.Exit(REFUSED)


def rollback(config: ConfigFile = CONFIG, state: State = STATE, tracking: TrackingUri = None) -> None:
    """Go back to the champion before this one.

    Example: rheostat rollback
    """
    from rheostat.training import promote as promotion

    loaded = load_config(config, state)
    registry = _registry(tracking, loaded, state)
    version = promotion.rollback(registry)
    typer.echo(f"champion is version {version.version} again")
    _follow(registry, loaded, state)


def _registry(tracking: str | None, config: Config, state: Path) -> Registry:
    """The registry to look for versions in. Looking makes none where there is none.

    Raises:
        RegistryError: the state folder has none, and no other is named.
    """
    from rheostat.data.errors import RegistryError
    from rheostat.training.registry import Registry

    named = tracking or config.mlflow.tracking_uri
    if not named and not embedded_mlflow(state).exists():
        raise RegistryError(
            f"no versions in {state}: run `rheostat train` first, or name its folder with --state or an MLflow with --tracking"
        )
    return Registry(tracking_uri(tracking, config, state))


def _follow(registry: Registry, config: Config, state: Path) -> None:
    """Hand the champion to the sidecar of the state folder; say so where no sidecar can follow it."""
    if config.router.bundle and Path(config.router.bundle) == state / CHAMPION_FOLDER:
        _keep_champion(registry, state / CHAMPION_FOLDER)
    elif not registry.uri.startswith("http") and not config.router.bundle and registry.champion() is not None:
        typer.echo(f"no sidecar follows {registry.uri}: give [mlflow] tracking_uri an MLflow server's address (rheostat up)", err=True)


def _keep_champion(registry: Registry, folder: Path) -> None:
    """Put the champion's bundle into a folder that a sidecar follows, in the place of the one before.

    Of two that do so at once the later one asks the registry again, so that an older champion never comes last.
    """
    with _alone(folder):
        champion = registry.champion()
        if champion is None:
            return
        staging = folder.with_name(f".{folder.name}-new")
        shutil.rmtree(staging, ignore_errors=True)  # what a kill left
        bundle, before = registry.download(champion, staging), staging / "before"
        if folder.exists():
            folder.rename(before)
        bundle.rename(folder)
        shutil.rmtree(staging)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other process changes the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
