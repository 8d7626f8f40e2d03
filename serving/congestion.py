"""What load does to prices: the fuller a model's replicas, the dearer it counts in decisions. Knows no engine's API.

The idea is congestion pricing: under load, decisions get cheaper (or move to another model) before requests are shed.
"""

from __future__ import annotations

from collections.abc import Mapping

from rheostat.serving.pool import Pools
from rheostat.serving.upstream import Replica

# Below these shares a cache or a set of places is in good use; above, what comes next has to wait.
FULL_CACHE = 0.9
FULL_PLACES = 0.8
# A look weighs this much against the looks before: a queue that lasts counts, one that passes does not.
WEIGHT_OF_A_LOOK = 0.5


class Congestion:
    """How crowded each model is, smoothed over the looks at its engines.

    Args:
        weight: a model that is full counts (1 + weight) times its price; 0 turns this off.
        full_queue: requests waiting in a replica's engine that count as a full queue.
    """

    def __init__(self, *, weight: float, full_queue: int) -> None:
        self._pressure: dict[str, float] = {}
        self.configure(weight=weight, full_queue=full_queue)

    def configure(self, *, weight: float, full_queue: int) -> None:
        """Take other settings from the next look on."""
        self._weight = weight
        self._full_queue = full_queue

    def look(self, pools: Pools) -> None:
        """Take in what the replicas say of themselves now."""
        seen = {model: self._of(pool.replicas) for model, pool in pools.items()}
        self._pressure = {
            model: WEIGHT_OF_A_LOOK * now + (1 - WEIGHT_OF_A_LOOK) * self._pressure.get(model, 0.0) for model, now in seen.items()
        }

    @property
    def pressure(self) -> Mapping[str, float]:
        """By model, from 0 (room for more) to 1 (full)."""
        return self._pressure

    @property
    def scarcity(self) -> dict[str, float]:
        """By model, how many times dearer it counts; only those that count dearer."""
        return {model: 1.0 + self._weight * pressure for model, pressure in self._pressure.items() if self._weight * pressure > 0.01}

    def _of(self, replicas: tuple[Replica, ...]) -> float:
        """A call goes to the replica with the most room, so a model is as crowded as its emptiest replica."""
        return min((self.of_replica(replica) for replica in replicas if not replica.is_out), default=1.0)

    def of_replica(self, replica: Replica) -> float:
        """The fullest of queue, cache and places, in [0, 1]."""
        parts = (
            replica.waiting / self._full_queue,
            _beyond(replica.cache_use, FULL_CACHE) if replica.waiting > 0 else 0.0,
            _beyond(replica.places_used, FULL_PLACES),
        )
        return min(1.0, max(parts))


def _beyond(share: float, limit: float) -> float:
    """How far a share is from `limit` to 1, as a share of that way."""
    return max(0.0, (share - limit) / (1.0 - limit))
