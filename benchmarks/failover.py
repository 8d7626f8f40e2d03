"""Two sidecars before three engines at 50 requests/s for a minute; an engine is killed, then a sidecar.

    python benchmarks/failover.py --seconds 60 --rate 50

Clients take the sidecars in turn and leave one out once it refuses connections, as a load balancer does. Passes
(status 0) when the only failures are the connections that a kill cut (the client's own, or the engine's behind a stream
of which a part was sent already), and every answer of the sidecar that lives is in its store; of the killed one at most
a last group commit may be missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.stacks import Engine, Seen, Sidecar, ask, percentile
from rheostat.data.outcomes import OutcomeReader

# What a client sees of a connection that was cut while its answer was on the way, or of one that the dead left half open.
CUT = ("ServerDisconnectedError", "ClientOSError", "ClientPayloadError", "ClientConnectionResetError", "ConnectionResetError")
IDLE_S = 2.0  # after which clients let go of a connection: sooner than a sidecar would, so that none is closed under a request
GROUP_COMMITS_S = 0.5  # of answers that a kill may take with it: a group is committed every 50 ms, later on a busy disk


def main() -> int:
    """Run and print what was seen. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second, whatever comes back")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="failover-") as folder:
        found = asyncio.run(failover(Path(folder), seconds=options.seconds, rate=options.rate))
    print(json.dumps(found, indent=2))
    return 0 if all(found["passes"].values()) else 1


async def failover(folder: Path, *, seconds: float, rate: float) -> dict[str, Any]:
    """Kill an engine after a third of the time and a sidecar after two thirds."""
    engines = [Engine(folder, token_s=0.002) for _ in range(3)]
    sidecars = [Sidecar(folder, engines) for _ in range(2)]
    seen = [Seen(), Seen()]
    try:
        for engine in engines:
            await asyncio.to_thread(engine.wait, "/health")
        for sidecar in sidecars:
            await asyncio.to_thread(sidecar.wait, "/healthz")
        in_flight = await _load(engines, sidecars, seen, seconds=seconds, rate=rate)
        await asyncio.to_thread(sidecars[1].end)
        return _found(sidecars, seen, in_flight, rate)
    finally:
        for running in (*sidecars, *engines):
            running.end(signal.SIGKILL)


async def _load(engines: list[Engine], sidecars: list[Sidecar], seen: list[Seen], *, seconds: float, rate: float) -> tuple[int, int]:
    """Open-loop load; returns how many requests were in flight at the kill of the engine and of the sidecar."""
    started = time.monotonic()
    at_engine = at_sidecar = 0
    requests: list[set[asyncio.Task[bool]]] = [set(), set()]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)) as session:
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            if number == int(seconds * rate / 3):
                at_engine = sum(not request.done() for request in (*requests[0], *requests[1]))
                engines[0].end(signal.SIGKILL)
            if number == int(2 * seconds * rate / 3):
                at_sidecar = sum(not request.done() for request in requests[0])
                sidecars[0].end(signal.SIGKILL)
            which = number % 2 if sidecars[0].child.poll() is None else 1
            fields = {"stream": True} if number % 3 == 0 else {}
            requests[which].add(asyncio.create_task(ask(session, sidecars[which].url, seen[which], fields)))
        await asyncio.gather(*requests[0], *requests[1])
    return at_engine, at_sidecar


def _found(sidecars: list[Sidecar], seen: list[Seen], in_flight: tuple[int, int], rate: float) -> dict[str, Any]:
    missing = [_missing(sidecar, saw) for sidecar, saw in zip(sidecars, seen, strict=True)]
    at_engine, at_sidecar = in_flight
    cut = sum(seen[0].statuses[name] for name in CUT)
    broken = [saw.statuses["200, error event"] for saw in seen]
    other = [sum(saw.statuses.values()) - saw.statuses["200"] - part for saw, part in zip(seen, broken, strict=True)]
    latencies = seen[0].latencies_s + seen[1].latencies_s
    return {
        "requests": [saw.asked for saw in seen],
        "statuses": [dict(saw.statuses) for saw in seen],
        "in_flight_at_the_kills": in_flight,
        "answers_missing_from_stores": missing,
        "p50_s": round(percentile(latencies, 0.5), 4),
        "p99_s": round(percentile(latencies, 0.99), 4),
        "passes": {
            "the killed engine broke only streams that were on their way": sum(broken) <= at_engine,
            "the sidecar that lives failed no other request": other[1] == 0,
            "the killed one failed only the connections that were cut": other[0] == cut <= at_sidecar + 1,
            "no answer of the one that lives is missing": missing[1] == 0,
            "of the killed one at most the last commit is missing": missing[0] <= GROUP_COMMITS_S * rate / 2,
        },
    }


def _missing(sidecar: Sidecar, seen: Seen) -> int:
    """Answers that were given and are not in the store with their outcome."""
    with OutcomeReader(sidecar.store) as store:
        return sum(store.outcome(decision_id) is None for decision_id in seen.answered)


if __name__ == "__main__":
    sys.exit(main())
