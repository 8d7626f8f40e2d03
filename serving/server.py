"""One sidecar process: builds the services from a config, listens, and stops without losing a record.

`python -m rheostat.serving.server --config rheostat.toml` runs one; `serve` is the same as a call.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette

from rheostat.data.errors import ActionError, BundleError, ConfigError, RheostatError
from rheostat.data.schema import Action
from rheostat.data.store import OutcomeStore
from rheostat.policies.base import Toolbox
from rheostat.policies.catalogue import default_actions
from rheostat.policies.needs import check_needs
from rheostat.router.budgets import Budgets
from rheostat.router.bundle import Bundle
from rheostat.router.controller import Controller
from rheostat.router.fallback import FallbackController
from rheostat.serving.admin import Listeners, build_admin
from rheostat.serving.admission import Admission
from rheostat.serving.app import Services, build_app
from rheostat.serving.audit import Audit, Audited, NoAudit
from rheostat.serving.config import Config, load, secret
from rheostat.serving.config_watch import LIVE, ConfigWatch
from rheostat.serving.congestion import Congestion
from rheostat.serving.connection import Bounds, bounded
from rheostat.serving.decider import Decider
from rheostat.serving.edge import Edge
from rheostat.serving.executor import Executor
from rheostat.serving.fleet import Environ, Fleet
from rheostat.serving.job import Jobs
from rheostat.serving.metrics import PASSTHROUGH, Metrics
from rheostat.serving.passthrough import Forwarder
from rheostat.serving.probes import Prober
from rheostat.serving.recorder import Recorder
from rheostat.serving.registry import MlflowSource
from rheostat.serving.reload import Cache, FolderSource, Source, Watcher
from rheostat.serving.request_log import open_log
from rheostat.serving.sessions import Sessions
from rheostat.serving.tools import open_toolbox
from rheostat.serving.usage import usd_today

FALLBACK_STRATEGY = "cot"
BACKLOG = 2048  # connections the system holds while the loop is busy; uvicorn's own number


def serve(config: Config, *, environ: Environ, path: Path | None = None, on_ready: Callable[[str], None] = print) -> None:
    """Run a sidecar until SIGTERM or SIGINT, then drain it and write everything that is queued.

    Args:
        config: what `config.load` or `config.local` gave.
        environ: where the variables named in the config are looked up.
        path: the file it came from, whose changes are followed; None follows none.
        on_ready: told the address once requests are answered.

    Raises:
        ConfigError: a variable named in the config is not set, or a port is taken.
        StoreError: another process writes the same store.
    """
    sidecar = Sidecar(config, environ=environ, path=path)
    sockets = listen(config)
    settings = uvicorn.Config(
        sidecar.app if len(sockets) == 1 else sidecar.with_admin(sockets[1].getsockname()[1]),
        host=config.server.host,
        port=config.server.port,
        loop="uvloop",
        http=bounded(sidecar.bounds),
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(config.server.drain_s)),
    )
    _Server(settings, on_ready).run(sockets=sockets)


class Sidecar:
    """Everything behind the routes, and the tasks that live as long as the process."""

    def __init__(self, config: Config, *, environ: Environ, path: Path | None = None) -> None:
        self._config = config
        self._environ = environ
        self._audit: Audited = Audit(Path(config.admin.audit)) if config.admin.port is not None else NoAudit()
        self._metrics = Metrics(tiers=frozenset([*config.tier, PASSTHROUGH]))
        self._fleet = Fleet(config, environ=environ, metrics=self._metrics)
        self._congestion = Congestion(weight=config.congestion.weight, full_queue=config.congestion.full_queue)
        self._prober = Prober(
            self._fleet.pools,
            congestion=self._congestion,
            metrics=self._metrics,
            every_s=config.pool.probe_s,
            timeout_s=config.pool.probe_timeout_s,
        )
        self._log = open_log(config.log.requests, on_drop=self._metrics.log_dropped.inc)
        self._open = AsyncExitStack()
        self._toolbox = open_toolbox(config, environ=environ, stack=self._open)
        self._decider = Decider(FallbackController(runnable_fallback(config, self._toolbox)), metrics=self._metrics)
        self._watcher = self._build_watcher(environ)
        self._store = OutcomeStore(Path(config.store.path))
        recorder = Recorder(self._store, store_prompts=config.store.store_prompts)
        self._prices = config.prices
        self._config_watch = None if path is None else ConfigWatch(path, apply=self.apply, metrics=self._metrics)
        self._budgets = Budgets({name: tier.mean_cost_usd for name, tier in config.tier.items() if tier.mean_cost_usd is not None})
        jobs = Jobs(recorder=recorder, metrics=self._metrics, prices=self._prices, budgets=self._budgets)
        executor = Executor(
            config,
            decider=self._decider,
            pools=self._fleet.pools,
            jobs=jobs,
            congestion=self._congestion,
            sessions=Sessions(config.sessions),
            toolbox=self._toolbox,
        )
        self.services = Services(
            config=config,
            executor=executor,
            forwarder=Forwarder(pools=self._fleet.pools, jobs=jobs),
            recorder=recorder,
            metrics=self._metrics,
            status=self.status,
            finished=self._store,
        )

    @property
    def app(self) -> Edge:
        """The application, bounded and logged."""
        server = self._config.server
        admission = Admission(
            places=server.max_in_flight, max_queued=server.max_queued, max_wait_s=server.max_wait_s, metrics=self._metrics
        )
        app = build_app(self.services, lifespan=self.lifespan)
        return Edge(app, admission=admission, log=self._log, body_timeout_s=server.body_timeout_s)

    def with_admin(self, port: int) -> Listeners:
        """The application, and the admin's behind that port."""
        admin = self._config.admin
        reload = None if self._config_watch is None else self._config_watch.look_soon
        token = secret(admin.token_env, self._environ)
        return Listeners(
            self.app, build_admin(self.services, audit=self._audit, reload=reload, host=admin.host, token=token), admin_port=port
        )

    @property
    def bounds(self) -> Bounds:
        """What a connection may do while it is not being served."""
        server = self._config.server
        return Bounds(
            max_connections=server.max_connections,
            head_timeout_s=server.head_timeout_s,
            stall_timeout_s=server.stall_timeout_s,
            on_cut=lambda reason: self._metrics.cut.labels(reason).inc(),
        )

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        """Load the bundle, watch for the next, and at the end write and close everything."""
        if self._watcher is not None:
            await self._watcher.start()
        if self._config_watch is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._config_watch.look_soon)
        if any(principal.allowance.usd.cap < math.inf for principal in self.services.keys.principals()):
            self.services.keys.spent_before(await asyncio.to_thread(usd_today, self._store))
        watches = [watch for watch in (self._watcher, self._config_watch) if watch is not None]
        tasks = [asyncio.create_task(loop.run()) for loop in (self._prober, self._log, *watches)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._fleet.close()
            await self._open.aclose()
            await self._log.flush()
            await asyncio.to_thread(self._store.close)

    def apply(self, config: Config) -> None:
        """Take over the live sections of a changed configuration; see `config_watch`.

        Raises:
            ConfigError: a price changed, or a variable named in the config is not set; nothing has changed then.
        """
        for model, price in config.prices.items():
            if price != self._prices.get(model, price):
                raise ConfigError(f"config: the price of {model!r} changed, which takes a restart: what is in flight has the old one")
        changed = msgspec.structs.replace(self._config, **{name: getattr(config, name) for name in LIVE})
        fallback = FallbackController(runnable_fallback(changed, self._toolbox))
        self._fleet.apply(changed)
        self._config = changed
        self._prices |= changed.prices
        self._metrics.tiers = frozenset([*changed.tier, PASSTHROUGH])
        self._congestion.configure(weight=changed.congestion.weight, full_queue=changed.congestion.full_queue)
        self._decider.fall_back_to(fallback)
        self.services.apply(changed)
        self._audit.write("config_applied", by="the configuration file", keys=[key.name for key in changed.key])

    def status(self) -> dict[str, Any]:
        """What /readyz shows; the store's gauges are set on the way."""
        store = self._store.stats()
        self._metrics.store_healthy.set(store.healthy)
        self._metrics.store_dropped.set(store.dropped)
        backends = self._fleet.available
        return {
            "ready": any(backends.values()),
            "backends": backends,
            "bundle": self._decider.version,
            "reload": None if self._watcher is None else self._watcher.status,
            "config": None if self._config_watch is None else self._config_watch.status,
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
        """A controller of what can be run here.

        Raises:
            BundleError: an action of a model served here asks for what is not here.
        """
        models = self._config.models
        try:
            for action in bundle.actions:
                if action.model in models:
                    check_needs(action, self._toolbox, models)
        except ActionError as error:
            raise BundleError(f"bundle {bundle.version} does not fit this configuration: {error}") from error
        explore = self._config.explore
        return Controller(
            bundle,
            prices=self._config.prices,
            epsilon=explore.epsilon,
            seed=explore.seed,
            sequential=self._config.router.sequential,
            budgets=self._budgets,
        )


def listen(config: Config) -> list[socket.socket]:
    """The sockets of the sidecar and, where one is configured, of its admin listener.

    Raises:
        ConfigError: an address cannot be bound.
    """
    wanted = [("server", config.server.host, config.server.port)]
    if config.admin.port is not None:
        wanted.append(("admin", config.admin.host, config.admin.port))
    return [_bound(*each) for each in wanted]


def _bound(section: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"config: {section}: cannot listen on {host} port {port}: {error.strerror or error}: choose another") from error


def build_source(config: Config, *, environ: Environ) -> Source | None:
    """Where bundles come from: the folder in the config, else MLflow, else nowhere."""
    if config.router.bundle:
        return FolderSource(Path(config.router.bundle))
    if not config.mlflow.tracking_uri:
        return None
    token = secret(config.mlflow.token_env, environ)
    return MlflowSource(config.mlflow.tracking_uri, model=config.mlflow.model, alias=config.mlflow.alias, token=token)


def fallback_actions(config: Config) -> list[Action]:
    """The action named in the config first, then one chain of thought per model in the order of the file."""
    named = [Action.parse(config.router.fallback)] if config.router.fallback else []
    return [*named, *(action for action in default_actions(config.models) if action.strategy == FALLBACK_STRATEGY)]


def runnable_fallback(config: Config, toolbox: Toolbox) -> list[Action]:
    """The fallback actions.

    Raises:
        ConfigError: the one named in the config asks for what is not here.
    """
    actions = fallback_actions(config)
    try:
        for action in actions:
            check_needs(action, toolbox, config.models)
    except ActionError as error:
        raise ConfigError(f"config: router.fallback: {error}") from error
    return actions


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
        serve(load(path), environ=os.environ, path=path, on_ready=lambda url: print(f"serving on {url}", flush=True))
    except RheostatError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
