"""How many requests are served at once, how many may wait, and who is refused. Knows no HTTP.

First come, first served, with a bound on the wait: nobody starves, and who would wait too long is told so at once.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rheostat.data.errors import RequestError
from rheostat.serving.metrics import Metrics

QUEUE_FULL, WAITED = "queue_full", "waited"


class Admission:
    """Places for requests, and a queue in front of them.

    Args:
        places: requests served at once.
        max_queued: requests that may wait for a place.
        max_wait_s: the longest wait.
        metrics: shows places, queue and refusals.
    """

    def __init__(self, *, places: int, max_queued: int, max_wait_s: float, metrics: Metrics) -> None:
        self.in_flight = 0
        self._places = places
        self._max_queued = max_queued
        self._max_wait_s = max_wait_s
        self._metrics = metrics
        self._queue: deque[asyncio.Future[None]] = deque()
        metrics.in_flight.set_function(lambda: self.in_flight)

    async def enter(self) -> None:
        """Take a place, after waiting for one if need be; every place taken is to be given back by `leave`.

        Raises:
            RequestError: 503, as the queue is full or the wait was too long.
        """
        if self.in_flight < self._places:
            self._count(1)
            return
        if len(self._queue) >= self._max_queued:
            raise self._refuse(QUEUE_FULL, f"{self.in_flight} requests are served and {len(self._queue)} wait")
        await self._wait()

    def leave(self) -> None:
        """Give a place back; the one who has waited longest gets it."""
        while self._queue:
            first = self._queue.popleft()
            if not first.done():
                first.set_result(None)
                return
        self._count(-1)

    async def _wait(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self._metrics.queued.inc()
        try:
            async with asyncio.timeout(self._max_wait_s):
                await turn
        except TimeoutError:
            self._give_up(turn)
            raise self._refuse(WAITED, f"no place became free within {self._max_wait_s:g} s") from None
        except asyncio.CancelledError:
            self._give_up(turn)
            raise
        finally:
            self._metrics.queued.dec()

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        """Leave the queue; a place that was given in the same moment goes to the next."""
        if turn in self._queue:
            self._queue.remove(turn)
        if turn.done() and not turn.cancelled():
            self.leave()

    def _refuse(self, reason: str, why: str) -> RequestError:
        self._metrics.shed.labels(reason).inc()
        return RequestError(f"{why}: try again shortly", status=503, code="overloaded")

    def _count(self, change: int) -> None:
        self.in_flight += change
