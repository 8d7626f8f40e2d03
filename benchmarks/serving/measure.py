"""One gateway next to no gateway: what it adds to latency, what it takes of a core, how much memory.

Windows are short and gateways take turns, so that whatever else the machine does meets all of them; what is told is the
median over the rounds, of differences within a round.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np
import psutil

from benchmarks.serving.gateways import Gateway, bodies, slow_stream
from benchmarks.serving.load import Window, closed_loop, open_loop, request, streams
from benchmarks.stacks import Process

CLIENTS = (1, 16, 64)
SHARES = (0.5, 0.8)  # of the capacity, for the open loop
STREAMS = 32
WARM_S = 0.5


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one gateway: medians over the rounds.

    Attributes:
        name: the gateway's.
        note: why it was not measured; everything else is empty then.
        p50_us, p99_us: latency by number of clients.
        added_p50_us, added_p99_us: the same less that of the upstream alone, in the same round.
        open_p99_us: latency by the share of its capacity that comes at random times.
        per_s: answers a second with the most clients, its capacity.
        per_core_s: answers a second of processor time.
        chunk_p50_us, chunk_p99_us: a streamed chunk's way from the upstream to the client.
        added_chunk_p50_us: less that without the gateway.
        chunk_cpu_us: processor time a chunk.
        rss_mib: memory after the load, with all child processes.
        failed: answers that were no 200.
    """

    name: str
    note: str = ""
    p50_us: dict[str, float] = {}
    p99_us: dict[str, float] = {}
    added_p50_us: dict[str, float] = {}
    added_p99_us: dict[str, float] = {}
    open_p99_us: dict[str, float] = {}
    per_s: float | None = None
    per_core_s: float | None = None
    chunk_p50_us: float | None = None
    chunk_p99_us: float | None = None
    added_chunk_p50_us: float | None = None
    chunk_cpu_us: float | None = None
    rss_mib: float | None = None
    failed: int = 0


@dataclass(slots=True)
class Measured:
    """A window, and the processor seconds the gateway took in it."""

    window: Window
    cpu_s: float


@dataclass(slots=True)
class Bench:
    """A running gateway and what was seen of it, round by round."""

    gateway: Gateway
    process: Process
    closed: dict[int, list[Measured]] = field(default_factory=lambda: {clients: [] for clients in CLIENTS})
    opened: dict[float, list[Measured]] = field(default_factory=lambda: {share: [] for share in SHARES})
    streamed: list[Measured] = field(default_factory=list)
    _requests: list[bytes] = field(init=False)
    _stream_request: bytes = field(init=False)

    def __post_init__(self) -> None:
        port = self.process.port
        self._requests = [request(port, body) for body in bodies(self.gateway.model)]
        self._stream_request = request(port, slow_stream(self.gateway.model))

    async def warm(self) -> None:
        """Let it open its connections and compile what it compiles."""
        await closed_loop(self.process.port, self._requests, clients=CLIENTS[-1], seconds=WARM_S)

    async def round(self, seconds: float) -> None:
        """One window of each kind. The open loop's rates follow from the capacity seen so far."""
        port = self.process.port
        for clients, seen in self.closed.items():
            seen.append(await self._measured(closed_loop(port, self._requests, clients=clients, seconds=seconds)))
        for share, seen in self.opened.items():
            rate = max(1.0, share * self.capacity)
            seed = len(seen)
            seen.append(await self._measured(open_loop(port, self._requests, rate=rate, seconds=seconds, seed=seed)))
        self.streamed.append(await self._measured(streams(port, self._stream_request, clients=STREAMS, seconds=seconds)))

    @property
    def capacity(self) -> float:
        """Answers a second with the most clients."""
        return _median(each.window.per_s for each in self.closed[CLIENTS[-1]])

    def row(self, direct: Bench) -> Row:
        """The medians, next to the upstream alone."""
        busiest = self.closed[CLIENTS[-1]]
        return Row(
            name=self.gateway.name,
            p50_us={str(clients): _quantile(seen, 0.5) for clients, seen in self.closed.items()},
            p99_us={str(clients): _quantile(seen, 0.99) for clients, seen in self.closed.items()},
            added_p50_us={str(clients): _added(seen, direct.closed[clients], 0.5) for clients, seen in self.closed.items()},
            added_p99_us={str(clients): _added(seen, direct.closed[clients], 0.99) for clients, seen in self.closed.items()},
            open_p99_us={f"{share:g}": _quantile(seen, 0.99) for share, seen in self.opened.items()},
            per_s=self.capacity,
            per_core_s=_median(len(each.window.latencies_s) / each.cpu_s for each in busiest if each.cpu_s),
            chunk_p50_us=_quantile(self.streamed, 0.5),
            chunk_p99_us=_quantile(self.streamed, 0.99),
            added_chunk_p50_us=_added(self.streamed, direct.streamed, 0.5),
            chunk_cpu_us=_median(1e6 * each.cpu_s / max(1, len(each.window.latencies_s)) for each in self.streamed),
            rss_mib=sum(each.memory_info().rss for each in _family(self.process)) / 2**20,
            failed=sum(each.window.failed for seen in self._all() for each in seen),
        )

    async def _measured(self, load: Coroutine[None, None, Window]) -> Measured:
        before = _cpu_s(self.process)
        window = await load
        return Measured(window, _cpu_s(self.process) - before)

    def _all(self) -> list[list[Measured]]:
        return [*self.closed.values(), *self.opened.values(), self.streamed]


def _family(process: Process) -> list[psutil.Process]:
    parent = psutil.Process(process.child.pid)
    return [parent, *parent.children(recursive=True)]


def _cpu_s(process: Process) -> float:
    times = [each.cpu_times() for each in _family(process)]
    return float(sum(each.user + each.system for each in times))


def _quantile(seen: list[Measured], share: float) -> float:
    return _median(each.window.quantile_us(share) for each in seen)


def _added(seen: list[Measured], direct: list[Measured], share: float) -> float:
    return _median(mine.window.quantile_us(share) - bare.window.quantile_us(share) for mine, bare in zip(seen, direct, strict=True))


def _median(values: Iterable[float]) -> float:
    """The median of what there is; nan of nothing."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")
