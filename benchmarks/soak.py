"""A soak: faults of every sort for minutes, then everything back to where it was.

    python benchmarks/soak.py --minutes 5

Of every hundred calls each fault below hits the share given; some clients leave half way, some have short deadlines, and
whoever is refused comes back after a second, as `Retry-After` says.
Passes (status 0) when most requests were answered, no exception went unhandled, every decision has its outcome in the
store, the store holds as many decisions as the request log, every complete answer is in it, and memory, descriptors and
threads are back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.stacks import Engine, Seen, Sidecar, ask, percentile
from rheostat.data.outcomes import OutcomeReader

FAULTS = {
    "error_500": 3, "busy_503": 2, "busy_429": 2, "stale": 2, "reset_head": 2, "reset": 3, "truncate": 3, "garbage_200": 2,
    "garbage_event": 2, "error_event": 2, "split": 5, "no_usage": 3, "hang_one": 1, "silent": 1, "hang": 1,
}  # fmt: skip
LEAVES_SHARE = 0.03
DEADLINE_MS = 4_000
RETRY_AFTER_S = 1.0
RSS_SLACK_BYTES = 48 * 1024 * 1024
DESCRIPTOR_SLACK, THREAD_SLACK = 16, 8
SETTLE_S = 12.0
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"stream": True},
    {"model": "pocket", "n": 2, "max_tokens": 64},
    {"rheostat": {"action": "pocket/self_consistency(k=4)@400"}},
    {"rheostat": {"action": "pocket/self_consistency(k=4)@400"}, "stream": True},
)


def main() -> int:
    """Run the soak and print what was seen. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        found = asyncio.run(soak(Path(folder), minutes=options.minutes, clients=options.clients, seed=options.seed))
    print(json.dumps(found, indent=2))
    return 0 if all(found["passes"].values()) else 1


async def soak(folder: Path, *, minutes: float, clients: int, seed: int) -> dict[str, Any]:
    """Start two engines and a sidecar, load them, and compare before and after."""
    engines = [Engine(folder, token_s=0.0005) for _ in range(2)]
    sidecar = Sidecar(folder, engines)
    seen = Seen()
    try:
        await asyncio.to_thread(_wait, engines, sidecar)
        process = psutil.Process(sidecar.child.pid)
        await _load(sidecar, Seen(), clients=clients, seconds=min(10.0, 6 * minutes), rng=random.Random(seed))
        await asyncio.sleep(SETTLE_S)
        before = _resources(process)
        for number, engine in enumerate(engines):
            engine.does(*_mix(random.Random(seed + number)))
        await _load(sidecar, seen, clients=clients, seconds=60 * minutes, rng=random.Random(seed + 7))
        for engine in engines:
            engine.does("ok")
        await asyncio.sleep(SETTLE_S)
        after = _resources(process)
        status = await asyncio.to_thread(sidecar.end)
        return _found(sidecar, seen, before, after, status, sum(engine.generated for engine in engines))
    finally:
        for running in (sidecar, *engines):
            running.end(signal.SIGKILL)  # an engine that hangs would wait for its own calls


def _wait(engines: list[Engine], sidecar: Sidecar) -> None:
    for engine in engines:
        engine.wait("/health")
    sidecar.wait("/healthz")


def _mix(rng: random.Random) -> list[str]:
    """A hundred calls: each fault its share, the rest well, in random order."""
    calls = [fault for fault, share in FAULTS.items() for _ in range(share)]
    calls += ["ok"] * (100 - len(calls))
    rng.shuffle(calls)
    return calls


async def _load(sidecar: Sidecar, seen: Seen, *, clients: int, seconds: float, rng: random.Random) -> None:
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(_client(session, sidecar, seen, end, random.Random(rng.random())) for _ in range(clients)))


async def _client(session: aiohttp.ClientSession, sidecar: Sidecar, seen: Seen, end: float, rng: random.Random) -> None:
    while time.monotonic() < end:
        fields = dict(rng.choice(VARIANTS))
        fields["rheostat"] = {**fields.get("rheostat", {}), "deadline_ms": DEADLINE_MS}
        request = asyncio.create_task(ask(session, sidecar.url, seen, fields))
        if rng.random() < LEAVES_SHARE:
            await asyncio.wait({request}, timeout=rng.random() * 0.05)
            request.cancel()
        (answered,) = await asyncio.gather(request, return_exceptions=True)
        if answered is False:
            await asyncio.sleep(RETRY_AFTER_S)


def _resources(process: psutil.Process) -> dict[str, int]:
    return {"rss_bytes": process.memory_info().rss, "descriptors": process.num_fds(), "threads": process.num_threads()}


def _found(sidecar: Sidecar, seen: Seen, before: dict[str, int], after: dict[str, int], status: int, generated: int) -> dict[str, Any]:
    with OutcomeReader(sidecar.store) as store:
        counts = store.counts()
        rows = list(store.rows_after(0, 10_000_000))
    stored = {row.decision.decision_id for row in rows}
    logged = [json.loads(line) for line in sidecar.requests_log.read_bytes().splitlines()]
    booked = sum(row.outcome.ledger.generated for row in rows if row.outcome is not None)
    text = sidecar.log.read_text()
    return {
        "requests": seen.asked,
        "statuses": dict(seen.statuses),
        "p50_s": round(percentile(seen.latencies_s, 0.5), 4),
        "p99_s": round(percentile(seen.latencies_s, 0.99), 4),
        "store_rows": counts.decisions,
        "decisions_logged": sum("decision_id" in line for line in logged),
        "tokens_booked": booked,
        "tokens_generated": generated,
        "before": before,
        "after": after,
        "passes": {
            "most requests were answered": 2 * len(seen.answered) > seen.asked,
            "no unhandled exception": "Traceback" not in text and "exception was never retrieved" not in text,
            "stopped with status 0": status == 0,
            "every decision has its outcome": counts.unfinished == 0,
            "store rows are the decisions logged": counts.decisions == sum("decision_id" in line for line in logged),
            "every answer is in the store": set(seen.answered) <= stored,
            "memory is back": after["rss_bytes"] - before["rss_bytes"] <= RSS_SLACK_BYTES,
            "descriptors are back": after["descriptors"] - before["descriptors"] <= DESCRIPTOR_SLACK,
            "threads are back": after["threads"] - before["threads"] <= THREAD_SLACK,
        },
    }


if __name__ == "__main__":
    sys.exit(main())
