"""What `rheostat doctor` looks at besides the engines: bundle, store, registry, access, logs, each with what to do about it.

Changes nothing: a store is opened for reading, a bundle is loaded in a child process.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import msgspec

from rheostat.data.errors import RheostatError
from rheostat.data.outcomes import OutcomeReader
from rheostat.router.bundle import Bundle, check_in_child
from rheostat.serving.config import Config, secret
from rheostat.serving.fleet import Environ
from rheostat.serving.registry import MlflowSource
from rheostat.serving.reload import Cache

LEAST_FREE_BYTES = 1024**3
REGISTRY_TIMEOUT_S = 10.0
NO_FILE = ("", "-")  # a request log that is off, or standard output

State = Literal["ok", "off", "fail"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: `off` is not in use, `fail` keeps something from working."""

    part: str
    what: str
    state: State
    found: str
    do: str = ""


async def check_surroundings(config: Config, *, environ: Environ) -> list[Check]:
    """Bundle, store, registry, access, admin listener and request log of a configuration, in this order; of the last two, what is on."""
    looks: list[tuple[str, str, Callable[[], Awaitable[Check]]]] = [
        ("bundle", "fit a bundle with `rheostat train`, or correct router.bundle", lambda: _bundle(config)),
        ("store", "give another store.path, or make room", lambda: _store(config)),
        ("mlflow", "start MLflow, or correct mlflow.tracking_uri", lambda: _registry(config, environ)),
        ("access", "", lambda: _access(config)),
    ]
    if config.admin.port is not None:
        looks.append(("admin", "set the variable, or give another admin.audit", lambda: _admin(config, environ)))
    if config.log.requests not in NO_FILE:
        looks.append(("log", "make its folder, or give another log.requests", lambda: _log(config)))
    return [await _guarded(part, do, look) for part, do, look in looks]


async def _guarded(part: str, do: str, look: Callable[[], Awaitable[Check]]) -> Check:
    try:
        return await look()
    except (RheostatError, OSError, TimeoutError) as error:
        return Check(part=part, what=part, state="fail", found=str(error) or type(error).__name__, do=do)


async def _bundle(config: Config) -> Check:
    """The bundle a sidecar would start with: the folder of the config, else the one kept from MLflow."""
    kept = Cache(Path(config.router.cache)).current()
    folder = Path(config.router.bundle) if config.router.bundle else kept[1] if kept else None
    if folder is None or not folder.exists():
        do = "train and promote a router; until then one fixed action is served, marked as degraded"
        return Check(part="bundle", what="none yet", state="off", found=f"no bundle in {folder or config.router.cache}", do=do)
    await asyncio.to_thread(check_in_child, folder)
    bundle = await asyncio.to_thread(Bundle.load, folder)
    return _fits(bundle, config)


def _fits(bundle: Bundle, config: Config) -> Check:
    """Whether the bundle's actions can be run by the configured models."""
    wanted = {action.model for action in bundle.actions}
    missing = sorted(wanted - set(config.models))
    found = f"version {bundle.version}, {len(bundle.actions)} actions"
    if not missing:
        return Check(part="bundle", what=bundle.version, state="ok", found=found)
    state: State = "fail" if wanted <= set(missing) else "off"
    do = "add a [[backend]] for each, or fit a bundle for the models there are"
    return Check(part="bundle", what=bundle.version, state=state, found=f"{found}; no backend for {', '.join(missing)}", do=do)


async def _store(config: Config) -> Check:
    path = Path(config.store.path)
    folder = _existing(path.parent)
    await asyncio.to_thread(_try_writing, folder)
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        found = f"{free // 2**20} MB free in {folder}"
        return Check(part="store", what=str(path), state="fail", found=found, do="make room: 1 GB at least")
    if not await asyncio.to_thread(path.exists):
        return Check(part="store", what=str(path), state="ok", found=f"will be made; {free // 2**30} GB free")
    with OutcomeReader(path) as store:
        counts = store.counts()
    found = f"{counts.decisions} decisions, {counts.unfinished} unfinished; {free // 2**30} GB free"
    return Check(part="store", what=str(path), state="ok", found=found)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there: the sidecar makes the rest."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder


def _try_writing(folder: Path) -> None:
    """Write and remove a file, as permissions alone do not tell of a read-only disk."""
    descriptor, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
    os.close(descriptor)
    Path(name).unlink()


async def _registry(config: Config, environ: Environ) -> Check:
    mlflow = config.mlflow
    if not mlflow.tracking_uri:
        do = "name one to follow the champion there, and to ship outcomes"
        return Check(part="mlflow", what="not configured", state="off", found="mlflow.tracking_uri is empty", do=do)
    source = MlflowSource(mlflow.tracking_uri, model=mlflow.model, alias=mlflow.alias, token=secret(mlflow.token_env, environ))
    async with asyncio.timeout(REGISTRY_TIMEOUT_S):
        version = await source.latest()
    if version is None:
        do = "run `rheostat train`, then `rheostat promote`"
        return Check(part="mlflow", what=mlflow.tracking_uri, state="off", found=f"no {mlflow.alias} of {mlflow.model} yet", do=do)
    return Check(part="mlflow", what=mlflow.tracking_uri, state="ok", found=f"{mlflow.alias} of {mlflow.model} is version {version}")


async def _access(config: Config) -> Check:
    if config.key:
        tenants = len({key.tenant for key in config.key})
        return Check(part="access", what="keys", state="ok", found=f"{len(config.key)} keys of {tenants} tenants")
    found = f"no [[key]]: whoever reaches {config.server.host} is served, as the tenant 'default'"
    return Check(part="access", what="open to all", state="off", found=found, do="give each client a key before others can reach it")


async def _admin(config: Config, environ: Environ) -> Check:
    secret(config.admin.token_env, environ)
    audit = Path(config.admin.audit)
    await asyncio.to_thread(_try_writing, _existing(audit.parent))
    return Check(part="admin", what=str(audit), state="ok", found=f"{config.admin.host} port {config.admin.port}")


async def _log(config: Config) -> Check:
    path = Path(config.log.requests)
    await asyncio.to_thread(_try_writing, path.parent)
    return Check(part="log", what=str(path), state="ok", found="can be written")
