"""Looks at every backend again and again: is it well, how full is it. What is seen goes to pools, prices and metrics."""

from __future__ import annotations

import asyncio
import logging
import random

from rheostat.serving.congestion import Congestion
from rheostat.serving.metrics import Metrics
from rheostat.serving.pool import Pools
from rheostat.serving.upstream import Replica

log = logging.getLogger(__name__)


class Prober:
    """Probes all replicas at once, round after round.

    Args:
        pools: looked at anew every round, so that backends may join and leave.
        congestion: told after every round.
        metrics: gauges by backend.
        every_s: seconds between rounds, with a tenth of jitter so that a fleet does not ask in step.
        timeout_s: for one backend; one that hangs delays the round by no more.
    """

    def __init__(self, pools: Pools, *, congestion: Congestion, metrics: Metrics, every_s: float, timeout_s: float) -> None:
        self._pools = pools
        self._congestion = congestion
        self._metrics = metrics
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._ailing: dict[str, str] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_s * random.uniform(0.9, 1.1))

    async def look(self) -> None:
        """One round."""
        replicas = [replica for pool in self._pools.values() for replica in pool.replicas]
        await asyncio.gather(*(replica.probe(self._timeout_s) for replica in replicas))
        self._congestion.look(self._pools)
        # A backend may have left meanwhile: its gauges are gone and stay so.
        for replica in (replica for pool in self._pools.values() for replica in pool.replicas):
            self._metrics.probed(
                replica.name, up=not replica.is_out, waiting=replica.waiting, running=replica.running, cache_use=replica.cache_use
            )
            self._tell(replica)
        for model, pressure in self._congestion.pressure.items():
            self._metrics.congestion.labels(model).set(pressure)

    def _tell(self, replica: Replica) -> None:
        """Log what changed with a backend since the last round."""
        before, now = self._ailing.get(replica.name, ""), replica.ails
        self._ailing[replica.name] = now
        if now and now != before:
            log.warning("backend %s is left alone: %s", replica.name, now)
        elif before and not now:
            log.info("backend %s takes calls again", replica.name)
