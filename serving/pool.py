"""The replicas of one model behind one name: who gets a call, and what happens when it fails. Knows no routing.

A call goes to the replica whose cache knows how its prompt begins, unless that one is clearly busier than the rest, and
otherwise to the least loaded; where all are held back, some calls go ahead of the pauses, since an outage of all is as
often a guess of ours as a fact. It moves to another replica only while the client has been sent nothing of it, the
error says that another might do better, and the retry budget has room.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from operator import attrgetter
from typing import TypeVar, cast

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import message_text
from rheostat.policies.base import Booking, GenerateRequest, Generation, Said
from rheostat.serving.breaker import Clock, RetryBudget
from rheostat.serving.context import note
from rheostat.serving.upstream import NOT_SET_UP, Engine, Replica, is_clients_fault, is_hurried

# Bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2018): the home of a prefix keeps it up to this many times the mean load.
BOUND = 1.25
PREFIX_CHARACTERS = 512  # a block of vLLM's prefix cache is 16 tokens; what differs later shares the blocks before

_takes_calls = attrgetter("takes_calls")

OnEvent = Callable[[str], None]
T = TypeVar("T")


class Pool:
    """All replicas of one model, used like one backend.

    Args:
        model: its name.
        replicas: in the order of the configuration.
        on_failure: told the name of a replica whose call failed.
        on_retry: told the name of the model when a call is tried again.
        retries: retries per call, in [0, 1].
        prefix_affinity: whether prompts that begin alike go to the same replica.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        model: str,
        replicas: Sequence[Replica],
        *,
        on_failure: OnEvent,
        on_retry: OnEvent,
        retries: float = 0.2,
        prefix_affinity: bool = True,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = model
        self.replicas = tuple(replicas)
        self._on_failure = on_failure
        self._on_retry = on_retry
        self._retries = RetryBudget(retries)
        self._prefix_affinity = prefix_affinity
        self._clock = clock

    @property
    def is_available(self) -> bool:
        """Whether any replica would take a call now."""
        return any(map(_takes_calls, self.replicas))

    @property
    def retry_after_s(self) -> float:
        """Seconds until a replica might take a call, by what is known now; 0 where one would."""
        return 0.0 if self.is_available else min((replica.breaker.left_s for replica in self.replicas), default=0.0)

    @property
    def in_flight(self) -> int:
        """Calls in flight on all replicas."""
        return sum(replica.in_flight for replica in self.replicas)

    async def generate(self, request: GenerateRequest, book: Booking) -> Generation:
        """Run one call on a replica, or on another when that one fails it.

        Raises:
            UpstreamError: no replica is there, or the call failed on all that were tried.
        """
        tries = _Tries(self, request)
        while True:
            replica, timed = tries.next()
            try:
                with replica.use(request) as engine:
                    return await engine.generate(timed, book)
            except UpstreamError as error:
                tries.failed(error, replica)

    async def stream(self, request: GenerateRequest, book: Booking, *, said: Said | None = None) -> AsyncGenerator[bytes, None]:
        """Pass one call's SSE bytes on; errors as `generate`, and none is retried once a byte was passed on."""
        tries = _Tries(self, request)
        sent = False
        while True:
            replica, timed = tries.next()
            try:
                with replica.use(request) as engine:
                    stream = cast(AsyncGenerator[bytes, None], engine.stream(timed, book, said=said))
                    async with aclosing(stream) as chunks:
                        async for chunk in chunks:
                            sent = True
                            yield chunk
                return
            except UpstreamError as error:
                tries.failed(error, replica, final=sent)

    async def ask(self, call: Callable[[Engine], Awaitable[T]]) -> T:
        """What a replica says to a call that generates nothing; errors as `generate`."""
        tries = _Tries(self, GenerateRequest(model=self.name, messages=(), max_tokens=1))
        while True:
            replica, request = tries.next()
            try:
                with replica.use(request) as engine:
                    return await call(engine)
            except UpstreamError as error:
                tries.failed(error, replica)

    async def close(self) -> None:
        """Close all replicas."""
        for replica in self.replicas:
            await replica.engine.close()

    def pick(self, request: GenerateRequest, tried: Sequence[Replica] = ()) -> Replica:
        """The replica that gets a call.

        Raises:
            UpstreamError: none of those not yet tried takes calls now; says when one might.
        """
        open_ones = [replica for replica in self.replicas if replica not in tried and not replica.breaker.is_open and not replica.is_full]
        # Where no probe is answered, the probes may be at fault: a call will tell.
        fit = [replica for replica in open_ones if replica.is_well] or open_ones
        if not fit:
            return self._early(tried)
        if len(fit) == 1:
            return fit[0]
        if self._prefix_affinity:
            prefix = prefix_of(request)
            home = max(fit, key=lambda replica: _weight(replica.name, prefix))
            if home.load <= BOUND * (1 + sum(replica.load for replica in fit)) / len(fit):
                return home
        return min(fit, key=lambda replica: replica.load)

    def _early(self, tried: Sequence[Replica]) -> Replica:
        """The held-back replica that would be let in next, where one may be tried before; errors as `pick`."""
        held = [each for each in self.replicas if each not in tried and not each.is_full and each.takes_early]
        if not held:
            raise UpstreamError(
                f"no backend of model {self.name!r} can take a call: try again later",
                backend=self.name,
                status=503,
                retry_after_s=self.retry_after_s,
            )
        return min(held, key=lambda replica: (not replica.is_well, replica.breaker.left_s))


class _Tries:
    """One call's way through the replicas: the first try, and those that are allowed after it."""

    def __init__(self, pool: Pool, request: GenerateRequest) -> None:
        self._pool = pool
        self._request = request
        self._ends_s = None if request.timeout_s is None else pool._clock() + request.timeout_s
        self._tried: list[Replica] = []
        pool._retries.called()

    def next(self) -> tuple[Replica, GenerateRequest]:
        """The replica to try, and the request with the time that is left of it."""
        replica = self._pool.pick(self._request, self._tried)
        if self._ends_s is None or not self._tried:
            return replica, self._request
        return replica, msgspec.structs.replace(self._request, timeout_s=self._ends_s - self._pool._clock())

    def failed(self, error: UpstreamError, replica: Replica, *, final: bool = False) -> None:
        """Take a failure in, and raise it where no other replica is to be tried."""
        if not is_clients_fault(error) and not is_hurried(error, self._request):
            self._pool._on_failure(replica.name)
            note(backend=replica.name, upstream_status=error.status)
        self._tried.append(replica)
        if final or not _may_do_better_elsewhere(error) or self._is_late() or not self._has_others() or not self._pool._retries.take():
            # One replica asks to be left alone; when to come back is a question to all of them.
            error.retry_after_s = self._pool.retry_after_s
            raise error
        self._pool._on_retry(self._pool.name)

    def _is_late(self) -> bool:
        return self._ends_s is not None and self._pool._clock() >= self._ends_s

    def _has_others(self) -> bool:
        return any(replica not in self._tried and replica.takes_calls for replica in self._pool.replicas)


def _may_do_better_elsewhere(error: UpstreamError) -> bool:
    return error.retryable or error.status in NOT_SET_UP


Pools = Mapping[str, Pool]


def prefix_of(request: GenerateRequest) -> bytes:
    """How a prompt begins: the roles and texts of its messages, up to some hundred characters."""
    parts: list[str] = []
    size = 0
    for message in request.messages:
        parts += [str(message.get("role")), message_text(message)[:PREFIX_CHARACTERS]]
        size += len(parts[-1])
        if size >= PREFIX_CHARACTERS:
            break
    return "\0".join(parts).encode("utf-8", "surrogatepass")[:PREFIX_CHARACTERS]


def _weight(name: str, prefix: bytes) -> bytes:
    """Rendezvous hashing: the replica with the highest weight is a prefix's home, and only its own prefixes move when it leaves."""
    return hashlib.blake2b(prefix, digest_size=8, key=name.encode()[:64]).digest()
