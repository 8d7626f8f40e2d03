"""All backends of a configuration as one pool per model. Backends join and leave while requests are in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from rheostat.policies.backend import VllmBackend
from rheostat.serving.config import BackendConfig, Config, secret
from rheostat.serving.context import trace_headers
from rheostat.serving.metrics import Metrics
from rheostat.serving.pool import Pool
from rheostat.serving.upstream import Replica

Environ = Mapping[str, str]


class Fleet:
    """The pools by model, and what keeps them in step with the configuration.

    A model whose last backend leaves keeps an empty pool: a request that was decided for it just before goes elsewhere.

    Args:
        config: names the backends.
        environ: where the variables named in the config are looked up.
        metrics: counts failures and retries.

    Raises:
        ConfigError: a variable named in the config is not set.
    """

    def __init__(self, config: Config, *, environ: Environ, metrics: Metrics) -> None:
        self.pools: dict[str, Pool] = {}
        self._environ = environ
        self._metrics = metrics
        self._members: dict[BackendConfig, Replica] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._config = config
        self._take(config)

    @property
    def available(self) -> dict[str, bool]:
        """By configured model, whether a backend would take a call now."""
        return {model: self.pools[model].is_available for model in self._config.models}

    def apply(self, config: Config) -> None:
        """Take another configuration's backends: those that stay the same keep their calls, connections and history.

        Raises:
            ConfigError: a variable named in the config is not set; nothing has changed then.
        """
        gone = self._take(config)
        for member in gone:
            task = asyncio.create_task(member.retire(config.server.drain_s))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        staying = {backend.name for backend in config.backend}
        for name in {member.name for member in gone} - staying:
            self._metrics.left(name)

    async def close(self) -> None:
        """Let go of all engines, also of those that are leaving."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for pool in self.pools.values():
            await pool.close()

    def _take(self, config: Config) -> Sequence[Replica]:
        """Switch to the backends of `config`; returns those that are no longer in it."""
        members = {backend: self._members.get(backend) or build_replica(backend, self._environ) for backend in config.backend}
        gone = [member for backend, member in self._members.items() if backend not in members]
        self._members, self._config = members, config
        for model in {*self.pools, *config.models}:
            replicas = tuple(member for backend, member in members.items() if backend.model == model)
            if model in self.pools:
                self.pools[model].replicas = replicas
            else:
                self.pools[model] = self._pool(model, replicas, config)
        return gone

    def _pool(self, model: str, replicas: Sequence[Replica], config: Config) -> Pool:
        return Pool(
            model,
            replicas,
            on_failure=lambda name: self._metrics.upstream_failures.labels(name).inc(),
            on_retry=lambda name: self._metrics.retries.labels(name).inc(),
            retries=config.pool.retry_share,
            prefix_affinity=config.pool.prefix_affinity,
        )


def build_replica(backend: BackendConfig, environ: Environ) -> Replica:
    """One backend of the configuration with nothing in flight; errors as `build_engine`."""
    return Replica(build_engine(backend, environ), max_in_flight=backend.max_in_flight)


def build_engine(backend: BackendConfig, environ: Environ) -> VllmBackend:
    """One backend of the configuration, not connected yet.

    Raises:
        ConfigError: the variable that holds its key is not set.
    """
    return VllmBackend(
        backend.name,
        backend.url,
        model=backend.served_model or backend.model,
        api_key=secret(backend.api_key_env, environ),
        max_connections=backend.max_in_flight,
        more_headers=trace_headers,
    )
