"""One sidecar process: builds the services from a config, listens, and stops without losing a record.

`python -m rheostat.serving.server --config rheostat.toml` runs one; `serve` is the same as a call.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from rheostat.data.errors import RheostatError
from rheostat.data.schema import Action
from rheostat.data.store import OutcomeStore
from rheostat.policies.backend import VllmBackend
from rheostat.policies.catalogue import default_actions
from rheostat.router.bundle import Bundle
from rheostat.router.controller import Controller, FallbackController
from rheostat.serving.app import Services, build_app
from rheostat.serving.config import BackendConfig, Config, load, secret
from rheostat.serving.decider import Decider
from rheostat.serving.executor import Executor
from rheostat.serving.job import Jobs
from rheostat.serving.metrics import PASSTHROUGH, Metrics
from rheostat.serving.recorder import Recorder
from rheostat.serving.registry import MlflowSource
from rheostat.serving.reload import Cache, FolderSource, Source, Watcher
from rheostat.serving.upstream import Pool, Replica

FALLBACK_STRATEGY = "cot"

Environ = Mapping[str, str]


def serve(config: Config, *, environ: Environ, on_ready: Callable[[str], None] = print) -> None:
    """Run a sidecar until SIGTERM or SIGINT, then drain it and write everything that is queued.

    Args:
        config: what `config.load` or `config.local` gave.
        environ: where the variables named in the config are looked up.
        on_ready: told the address once requests are answered.

    Raises:
        ConfigError: a variable named in the config is not set.
        StoreError: another process writes the same store.
    """
    sidecar = Sidecar(config, environ=environ)
    settings = uvicorn.Config(
        build_app(sidecar.services, lifespan=sidecar.lifespan),
        host=config.server.host,
        port=config.server.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(config.server.drain_s)),
    )
    _Server(settings, on_ready).run()


class Sidecar:
    """Everything behind the routes, and the tasks that live as long as the process."""

    def __init__(self, config: Config, *, environ: Environ) -> None:
        self._config = config
        self._metrics = Metrics(tiers=frozenset([*config.tier, PASSTHROUGH]))
        self._pools = build_pools(config, environ=environ, metrics=self._metrics)
        self._decider = Decider(FallbackController(fallback_actions(config)), metrics=self._metrics)
        self._watcher = self._build_watcher(environ)
        Path(config.store.path).parent.mkdir(parents=True, exist_ok=True)
        self._store = OutcomeStore(Path(config.store.path))
        recorder = Recorder(self._store, store_prompts=config.store.store_prompts)
        jobs = Jobs(recorder=recorder, metrics=self._metrics, prices=config.prices)
        executor = Executor(config, decider=self._decider, pools=self._pools, jobs=jobs)
        self.services = Services(config=config, executor=executor, recorder=recorder, metrics=self._metrics, status=self.status)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        """Load the bundle, watch for the next, and at the end write and close everything."""
        watching: asyncio.Task[None] | None = None
        if self._watcher is not None:
            await self._watcher.start()
            watching = asyncio.create_task(self._watcher.run())
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
            for pool in self._pools.values():
                await pool.close()
            await asyncio.to_thread(self._store.close)

    def status(self) -> dict[str, Any]:
        """What /readyz shows; the store's gauges are set on the way."""
        store = self._store.stats()
        self._metrics.store_healthy.set(store.healthy)
        self._metrics.store_dropped.set(store.dropped)
        backends = {model: pool.is_available for model, pool in self._pools.items()}
        return {
            "ready": any(backends.values()),
            "backends": backends,
            "bundle": self._decider.version,
            "reload": None if self._watcher is None else self._watcher.status,
            "store": {"healthy": store.healthy, "queued": store.queued, "dropped": store.dropped, "last_error": store.last_error},
        }

    def _build_watcher(self, environ: Environ) -> Watcher | None:
        config = self._config
        source = build_source(config, environ=environ)
        if source is None:
            return None
        return Watcher(
            source,
            cache=Cache(Path(config.router.cache)),
            decider=self._decider,
            make_controller=self._controller,
            metrics=self._metrics,
            poll_s=config.router.poll_s if config.router.bundle else config.mlflow.poll_s,
        )

    def _controller(self, bundle: Bundle) -> Controller:
        explore = self._config.explore
        return Controller(bundle, prices=self._config.prices, epsilon=explore.epsilon, seed=explore.seed)


def build_source(config: Config, *, environ: Environ) -> Source | None:
    """Where bundles come from: the folder in the config, else MLflow, else nowhere."""
    if config.router.bundle:
        return FolderSource(Path(config.router.bundle))
    if not config.mlflow.tracking_uri:
        return None
    token = secret(config.mlflow.token_env, environ)
    return MlflowSource(config.mlflow.tracking_uri, model=config.mlflow.model, alias=config.mlflow.alias, token=token)


def build_pools(config: Config, *, environ: Environ, metrics: Metrics) -> dict[str, Pool]:
    """One pool per model, of all backends that have it."""

    def on_failure(name: str) -> None:
        metrics.upstream_failures.labels(name).inc()

    return {
        model: Pool(model, [_replica(backend, environ) for backend in config.backend if backend.model == model], on_failure=on_failure)
        for model in config.models
    }


def fallback_actions(config: Config) -> list[Action]:
    """The action named in the config first, then one chain of thought per model in the order of the file."""
    named = [Action.parse(config.router.fallback)] if config.router.fallback else []
    return [*named, *(action for action in default_actions(config.models) if action.strategy == FALLBACK_STRATEGY)]


def _replica(backend: BackendConfig, environ: Environ) -> Replica:
    engine = VllmBackend(
        backend.name,
        backend.url,
        model=backend.served_model or backend.model,
        api_key=secret(backend.api_key_env, environ),
        max_connections=backend.max_in_flight,
    )
    return Replica(engine, max_in_flight=backend.max_in_flight)


class _Server(uvicorn.Server):
    """Tells the address once the socket listens (with port 0 nobody knows it before), and ends with status 0 when told to stop."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_ready(f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to drain; a second interrupt cuts it short. uvicorn's own would raise the signal again at the end."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def main(arguments: list[str] | None = None) -> int:
    """Run a sidecar from a config file. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m rheostat.serving.server", description="Run one Rheostat sidecar.")
    parser.add_argument("--config", type=Path, required=True, help="the TOML file, as in rheostat.toml")
    path = parser.parse_args(arguments).config
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        serve(load(path), environ=os.environ, on_ready=lambda url: print(f"serving on {url}", flush=True))
    except RheostatError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
