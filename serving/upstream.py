"""One replica of a model: its engine, how busy and how well it is. Knows no routing and no other replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Protocol

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import Backend, Booking, GenerateRequest, Said
from rheostat.serving.breaker import FAILURES_TO_OPEN, Breaker, Clock

# A call that ran into its own limit before this says more about the limit than about the replica.
FAIR_S = 5.0
BUSY = (429, 503)
CLIENT_FAULTS = (400, 413, 422)
# Not the client's: path, model name and key are ours. Such a replica fails at once, so that as the least busy one it would get most calls.
NOT_SET_UP = (401, 403, 404)
WAITING, RUNNING, CACHE = "num_requests_waiting", "num_requests_running", "kv_cache_usage_perc"


class Engine(Backend, Protocol):
    """A backend that can also pass its event stream on, and be asked how it is."""

    def stream(self, request: GenerateRequest, book: Booking, *, said: Said | None = None) -> AsyncIterator[bytes]:
        """The upstream's SSE bytes, verbatim, and what they say in `said`; booked once whatever happens."""
        ...

    async def forward(self, path: str, fields: Mapping[str, Any]) -> bytes:
        """The body of its answer to a call that generates nothing.

        Raises:
            UpstreamError: it refused, failed or fell silent.
        """
        ...

    async def healthy(self) -> bool:
        """Whether it says that it is well; False where it cannot be reached."""
        ...

    async def metrics(self) -> dict[str, float]:
        """The engine's own gauges by name.

        Raises:
            UpstreamError: it does not answer, or has none.
        """
        ...


class Replica:
    """One engine with its load and its health.

    Args:
        engine: what calls go to.
        max_in_flight: calls from here at once.
        clock: seconds, monotonic.

    `waiting`, `running` and `cache_use` are what the engine said when it was probed last: calls of all its clients that
    wait and run, and the share of its cache in use.
    """

    def __init__(self, engine: Engine, *, max_in_flight: int, clock: Clock = time.monotonic) -> None:
        self.engine = engine
        self.in_flight = 0
        self.breaker = Breaker(clock)
        self.is_well = True
        self.waiting = 0.0
        self.running = 0.0
        self.cache_use = 0.0
        self._max_in_flight = max_in_flight
        self._few = float(max_in_flight)  # calls at once while it asks to be left alone
        self._clock = clock
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def name(self) -> str:
        """The engine's name."""
        return self.engine.name

    @property
    def is_out(self) -> bool:
        """Whether it takes no calls for now: unwell at the last probe, or held back by the breaker."""
        return not self.is_well or self.breaker.is_open

    @property
    def ails(self) -> str:
        """What is wrong with it, for whoever runs it; empty where nothing is. A pause that it asked for is no ailment."""
        if not self.is_well:
            return "it does not say that it is well"
        return f"its last {FAILURES_TO_OPEN} calls or more failed" if self.breaker.has_tripped else ""

    @property
    def takes_calls(self) -> bool:
        """Whether a call may go to it now."""
        return self.is_well and self.in_flight < self._max_in_flight and not self.breaker.is_open

    @property
    def takes_early(self) -> bool:
        """Whether a call may go ahead of a pause, where no other replica is left.

        One that asked to be left alone gets fewer calls at once than it refused; one that failed gets one now and then.
        """
        return self.breaker.may_be_tried if self.breaker.has_tripped else self.in_flight < self._few

    @property
    def is_full(self) -> bool:
        """Whether as many calls are in flight as it may have."""
        return self.in_flight >= self._max_in_flight

    @property
    def places_used(self) -> float:
        """The share of its places for calls from here that is taken, in [0, 1]."""
        return self.in_flight / self._max_in_flight

    @property
    def load(self) -> float:
        """Calls it has to deal with: those from here, and those that wait in its queue, whoever sent them."""
        return self.in_flight + self.waiting

    def use(self, request: GenerateRequest) -> Use:
        """Hold one call's place inside, and learn from how the call ends."""
        return Use(self, request)

    async def probe(self, timeout_s: float) -> None:
        """Ask the engine how it is and how busy; an engine without metrics is only asked how it is."""
        try:
            async with asyncio.timeout(timeout_s):
                self.is_well = await self.engine.healthy()
                gauges = await self.engine.metrics() if self.is_well else {}
        except TimeoutError:
            self.is_well, gauges = False, {}
        except UpstreamError:
            gauges = {}
        self.waiting, self.running, self.cache_use = (gauges.get(name, 0.0) for name in (WAITING, RUNNING, CACHE))

    async def retire(self, timeout_s: float) -> None:
        """Let calls in flight end, for at most `timeout_s`, then let go of the engine."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            pass
        finally:
            await self.engine.close()

    def _begin(self) -> bool:
        self.in_flight += 1
        self._idle.clear()
        return self.breaker.begin()

    def _succeeded(self, *, trial: bool) -> None:
        self.breaker.succeeded(trial=trial)
        self._few += 1 / self._few  # one more for as many successes as it gets calls at once, and half for a refusal

    def _end(self, *, trial: bool) -> None:
        self.breaker.end(trial=trial)
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    def _failed(self, error: UpstreamError, request: GenerateRequest, started_s: float) -> None:
        if self._was_cut_early(error, request, started_s):
            return
        self.breaker.failed()
        if error.status in BUSY and error.retry_after_s:
            self.breaker.pause(error.retry_after_s)
            self._few = max(1.0, self.in_flight / 2)

    def _was_cut_early(self, error: UpstreamError, request: GenerateRequest, started_s: float) -> bool:
        """Whether a short deadline of the client's ended it: a client must not be able to eject replicas."""
        timed_out = isinstance(error.__cause__, TimeoutError)
        return timed_out and request.timeout_s is not None and self._clock() - started_s < FAIR_S


class Use:
    """One call to a replica."""

    def __init__(self, replica: Replica, request: GenerateRequest) -> None:
        self._replica = replica
        self._request = request

    def __enter__(self) -> Engine:
        self._trial = self._replica._begin()
        self._started_s = self._replica._clock()
        return self._replica.engine

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._replica._succeeded(trial=self._trial)
        elif isinstance(error, UpstreamError) and not is_clients_fault(error):
            self._replica._failed(error, self._request, self._started_s)
        self._replica._end(trial=self._trial)


def is_clients_fault(error: UpstreamError) -> bool:
    """Whether the backend refused what was asked, and another would as well."""
    return error.status in CLIENT_FAULTS


def is_hurried(error: UpstreamError, request: GenerateRequest) -> bool:
    """Whether a call ran into a limit of its own that says little about the replica."""
    return isinstance(error.__cause__, TimeoutError) and request.timeout_s is not None and request.timeout_s < FAIR_S
