"""Assembles a sidecar from its configuration, keeps it going, and closes it without losing a record. Binds no port."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette

from rheostat.data.errors import ConfigError, StoreError
from rheostat.data.store import OutcomeStore
from rheostat.router.budgets import Budgets
from rheostat.router.fallback import FallbackController
from rheostat.serving.admin import Listeners, build_admin
from rheostat.serving.admission import Admission
from rheostat.serving.app import Services, build_app
from rheostat.serving.audit import Audit, Audited, NoAudit
from rheostat.serving.bounds import Bounds
from rheostat.serving.checker import Checker
from rheostat.serving.config import Config, secret
from rheostat.serving.config_watch import LIVE, ConfigWatch
from rheostat.serving.congestion import Congestion
from rheostat.serving.controllers import Controllers, build_source
from rheostat.serving.decider import Decider
from rheostat.serving.dispatch import Dispatch
from rheostat.serving.edge import Edge
from rheostat.serving.executor import Executor
from rheostat.serving.fallback import runnable_fallback
from rheostat.serving.fleet import Environ, Fleet
from rheostat.serving.job import Jobs
from rheostat.serving.loop_watch import LoopWatch
from rheostat.serving.metrics import PASSTHROUGH, Metrics
from rheostat.serving.passthrough import Forwarder
from rheostat.serving.probes import Prober
from rheostat.serving.recorder import Recorder
from rheostat.serving.reload import Cache, Watcher
from rheostat.serving.request_log import open_log
from rheostat.serving.runner import Runner
from rheostat.serving.sessions import Sessions
from rheostat.serving.tools import open_toolbox
from rheostat.serving.usage import usd_today
from rheostat.serving.verification import Verification

BY_FILE = "the configuration file"  # who changed something, in the audit log
SETTLING_S = 1.0  # for calls that a stop has cut short: by then the engine has told their last token


class Sidecar:
    """Everything behind the routes, and the tasks that live as long as the process.

    Attributes:
        failure: what the store could not write at the end, if anything.
    """

    def __init__(self, config: Config, *, environ: Environ, path: Path | None = None) -> None:
        self.failure: StoreError | None = None
        self._config = config
        self._environ = environ
        self._audit: Audited = Audit(Path(config.admin.audit)) if config.admin.port is not None else NoAudit()
        self._metrics = Metrics(tiers=frozenset([*config.tier, PASSTHROUGH]))
        self._fleet = Fleet(config, environ=environ, metrics=self._metrics)
        self._congestion = Congestion(weight=config.congestion.weight, full_queue=config.congestion.full_queue)
        self._prober = self._build_prober()
        self._log = open_log(config.log.requests, on_drop=self._metrics.log_dropped.inc)
        self._open = AsyncExitStack()
        self._toolbox = open_toolbox(config, environ=environ, stack=self._open)
        self._decider = Decider(
            FallbackController(runnable_fallback(config, self._toolbox)),
            metrics=self._metrics,
            encoder_deadline_s=config.router.encoder_deadline_ms / 1000,
        )
        self._budgets = Budgets(config.mean_costs)
        self._controllers = Controllers(config, toolbox=self._toolbox, budgets=self._budgets)
        self._watcher = self._build_watcher()
        self._store = OutcomeStore(Path(config.store.path))
        self._config_watch = None if path is None else ConfigWatch(path, apply=self.apply, on_refused=self._refused, metrics=self._metrics)
        self._prices = config.prices
        self.services = self._build_services()

    @property
    def app(self) -> Edge:
        """The application, bounded and logged."""
        server = self._config.server
        admission = Admission(
            places=server.max_in_flight, max_queued=server.max_queued, max_wait_s=server.max_wait_s, metrics=self._metrics
        )
        app = build_app(self.services, lifespan=self.lifespan)
        return Edge(Dispatch(app), admission=admission, log=self._log, body_timeout_s=server.body_timeout_s)

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
            idle_timeout_s=server.idle_timeout_s,
            stall_timeout_s=server.stall_timeout_s,
            on_cut=lambda reason: self._metrics.cut.labels(reason).inc(),
        )

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        """Load the bundle, watch for the next, and at the end write and close everything."""
        await self._begin()
        watches = [watch for watch in (self._watcher, self._config_watch) if watch is not None]
        tasks = [asyncio.create_task(loop.run()) for loop in (self._prober, self._log, LoopWatch(self._metrics), *watches)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()

    async def _begin(self) -> None:
        if self._watcher is not None:
            await self._watcher.start()
        if self._config_watch is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._config_watch.look_soon)
        keys = self.services.keys
        if any(principal.allowance.usd.cap < math.inf for principal in keys.principals()):
            keys.spent_before(await asyncio.to_thread(usd_today, self._store))

    async def _close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLING_S):
                await self._jobs.ended()
        await self._fleet.close()
        await self._open.aclose()
        await self._log.flush()
        try:
            await asyncio.to_thread(self._store.close)
        except StoreError as error:
            self.failure = error  # raised here it would be a traceback of the server's, and status 0

    def apply(self, config: Config) -> None:
        """Take over the live sections of a changed configuration; see `config_watch`.

        Raises:
            ConfigError: a price changed, or a variable named in the config is not set; nothing has changed then.
        """
        self._check_prices(config)
        sections = [name for name in LIVE if getattr(config, name) != getattr(self._config, name)]
        changed = msgspec.structs.replace(self._config, **{name: getattr(config, name) for name in LIVE})
        fallback = FallbackController(runnable_fallback(changed, self._toolbox))
        self._fleet.apply(changed)
        has_new_models = not changed.prices.keys() <= self._config.prices.keys()
        self._config = changed
        self._budgets.configure(changed.mean_costs)
        self._controllers.apply(changed)
        if self._watcher is not None and has_new_models:
            self._watcher.remake()  # the controller knows no price of a model that was not there
        self._prices |= changed.prices
        self._metrics.tiers = frozenset([*changed.tier, PASSTHROUGH])
        self._congestion.configure(weight=changed.congestion.weight, full_queue=changed.congestion.full_queue)
        self._decider.fall_back_to(fallback)
        self.services.apply(changed)
        self._audit.write("config_applied", by=BY_FILE, sections=sections, keys=[key.name for key in changed.key])

    def _refused(self, why: str) -> None:
        self._audit.write("config_refused", by=BY_FILE, why=why)

    def _check_prices(self, config: Config) -> None:
        for model, price in config.prices.items():
            if price != self._prices.get(model, price):
                raise ConfigError(f"config: the price of {model!r} changed, which takes a restart: what is in flight has the old one")

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

    def _build_prober(self) -> Prober:
        pool = self._config.pool
        return Prober(
            self._fleet.pools,
            congestion=self._congestion,
            metrics=self._metrics,
            every_s=pool.probe_s,
            timeout_s=pool.probe_timeout_s,
        )

    def _build_watcher(self) -> Watcher | None:
        config = self._config
        source = build_source(config, environ=self._environ)
        if source is None:
            return None
        return Watcher(
            source,
            cache=Cache(Path(config.router.cache)),
            decider=self._decider,
            make_controller=self._controllers.make,
            metrics=self._metrics,
            poll_s=config.router.poll_s if config.router.bundle else config.mlflow.poll_s,
        )

    def _build_services(self) -> Services:
        recorder = Recorder(self._store, store_prompts=self._config.store.store_prompts)
        self._jobs = Jobs(recorder=recorder, metrics=self._metrics, prices=self._prices, budgets=self._budgets)
        return Services(
            config=self._config,
            executor=self._build_executor(self._jobs),
            forwarder=Forwarder(pools=self._fleet.pools, jobs=self._jobs),
            recorder=recorder,
            metrics=self._metrics,
            status=self.status,
            finished=self._store,
        )

    def _build_executor(self, jobs: Jobs) -> Executor:
        pools, check = self._fleet.pools, self._config.verification
        verification = Verification(
            Runner(pools, self._toolbox),
            pools,
            Checker(pools, self._toolbox, check),
            escalate=check.escalate,
            metrics=self._metrics,
        )
        return Executor(
            self._config,
            decider=self._decider,
            pools=pools,
            jobs=jobs,
            congestion=self._congestion,
            sessions=Sessions(self._config.sessions),
            toolbox=self._toolbox,
            verification=verification,
        )
