"""Watches how late the event loop comes back to things: every request waits for whatever holds it up."""

from __future__ import annotations

import asyncio
import time

from rheostat.serving.metrics import Metrics

EVERY_S = 0.02  # of a stall no more than this is missed, and looking costs about a thousandth of a core


class LoopWatch:
    """Sleeps a little, again and again, and records how much later than asked it woke.

    Args:
        metrics: the histogram of delays.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due_s = time.monotonic() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._metrics.loop_lag.observe(max(0.0, time.monotonic() - due_s))
