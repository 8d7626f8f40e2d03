"""The replicas of one model behind one name: the least loaded healthy one gets the call. Knows no routing.

A replica that fails several calls in a row is left out for a while that doubles (a circuit breaker), then gets one
call to prove itself. A call moves to another replica only while the client has been sent nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Protocol, cast

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import Backend, Booking, Feeding, GenerateRequest, Generation

FAILURES_TO_EJECT = 3
FIRST_EJECTION_S = 1.0
LONGEST_EJECTION_S = 30.0

OnFailure = Callable[[str], None]


class Engine(Backend, Protocol):
    """A backend that can also pass its event stream on."""

    def stream(self, request: GenerateRequest, book: Booking, *, reply: Feeding | None = None) -> AsyncIterator[bytes]:
        """The upstream's SSE bytes, verbatim, and fed to `reply`; booked once whatever happens."""
        ...


class Replica:
    """One backend with its load and its recent failures."""

    def __init__(self, engine: Engine, *, max_in_flight: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.in_flight = 0
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._failures = 0
        self._out_until = 0.0

    @property
    def is_out(self) -> bool:
        """Whether the breaker holds calls back."""
        return self._clock() < self._out_until

    @property
    def is_full(self) -> bool:
        """Whether as many calls are in flight as it may have."""
        return self.in_flight >= self._max_in_flight

    @contextmanager
    def use(self) -> Iterator[Engine]:
        """Hold one call's place, and learn from how the call ends."""
        self.in_flight += 1
        try:
            yield self.engine
        except UpstreamError as error:
            if not is_clients_fault(error):
                self._failed()
            raise
        else:
            self._failures = 0
        finally:
            self.in_flight -= 1

    def _failed(self) -> None:
        self._failures += 1
        beyond = self._failures - FAILURES_TO_EJECT
        if beyond >= 0:
            self._out_until = self._clock() + min(FIRST_EJECTION_S * 2.0 ** min(beyond, 10), LONGEST_EJECTION_S)


class Pool:
    """All replicas of one model, used like one backend."""

    def __init__(self, model: str, replicas: Sequence[Replica], *, on_failure: OnFailure) -> None:
        self.name = model
        self._replicas = tuple(replicas)
        self._on_failure = on_failure

    @property
    def is_available(self) -> bool:
        """Whether any replica would take a call now."""
        return any(not replica.is_out and not replica.is_full for replica in self._replicas)

    @property
    def in_flight(self) -> int:
        """Calls in flight on all replicas."""
        return sum(replica.in_flight for replica in self._replicas)

    async def generate(self, request: GenerateRequest, book: Booking) -> Generation:
        """Run one call on the least loaded replica, or on another when that one refuses it unspent.

        Raises:
            UpstreamError: no replica is there, or the call failed on all that were tried.
        """
        tried: list[Replica] = []
        while True:
            replica = self._pick(tried)
            try:
                with replica.use() as engine:
                    return await engine.generate(request, book)
            except UpstreamError as error:
                self._note(error, replica, tried)

    async def stream(self, request: GenerateRequest, book: Booking, *, reply: Feeding | None = None) -> AsyncGenerator[bytes, None]:
        """Pass one call's SSE bytes on; errors as `generate`, and none is retried once a byte was passed on."""
        tried: list[Replica] = []
        sent = False
        while True:
            replica = self._pick(tried)
            try:
                with replica.use() as engine:
                    stream = cast(AsyncGenerator[bytes, None], engine.stream(request, book, reply=reply))
                    async with aclosing(stream) as chunks:
                        async for chunk in chunks:
                            sent = True
                            yield chunk
                return
            except UpstreamError as error:
                if sent:
                    self._on_failure(replica.engine.name)
                    raise
                self._note(error, replica, tried)

    async def close(self) -> None:
        """Close all replicas."""
        for replica in self._replicas:
            await replica.engine.close()

    def _pick(self, tried: Sequence[Replica]) -> Replica:
        fit = [replica for replica in self._replicas if replica not in tried and not replica.is_out and not replica.is_full]
        if not fit:
            raise UpstreamError(f"no backend of model {self.name!r} can take a call: try again later", backend=self.name, status=503)
        return min(fit, key=lambda replica: replica.in_flight)

    def _note(self, error: UpstreamError, replica: Replica, tried: list[Replica]) -> None:
        """Remember a failure, and raise it when there is nowhere else to go."""
        if not is_clients_fault(error):
            self._on_failure(replica.engine.name)
        tried.append(replica)
        if not error.retryable or len(tried) == len(self._replicas):
            raise error


Pools = Mapping[str, Pool]


def is_clients_fault(error: UpstreamError) -> bool:
    """Whether the backend refused what was asked, and another would as well."""
    return error.status is not None and 400 <= error.status < 500 and error.status not in (408, 429)
