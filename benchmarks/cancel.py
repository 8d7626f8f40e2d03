"""How soon clients that leave free their places in a real engine, by the engine's own metrics.

    python benchmarks/cancel.py --streams 100

Every client streams a strategy of several samples, all at once; once the engine works on them all of them leave. Told
is the time until the engine says that it runs and holds nothing any more: through the sidecar, and for comparison from
the same number of clients that ask the engine itself for as many samples. Passes (status 0) when the median through the
sidecar is no more than the bar above that of the engine itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.stacks import Sidecar
from rheostat.policies.engine import Engines
from rheostat.policies.scrape import sum_metrics

MODEL, SAMPLES, CAP_TOKENS = "pocket", 4, 1600
BAR_S = 0.25
LOOK_S = 0.002
WORKING_S = 0.3  # for which the engine is at work before the clients leave
QUESTION = "Count the letter a in " + "a b c d " * 12
GAUGES = ("num_requests_running", "num_requests_waiting")


@dataclass
class Remote:
    """An engine that runs already."""

    url: str


def main() -> int:
    """Measure and print. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=100, help="clients at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", default="", help="URL of a running engine that serves `pocket`; one is started otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cancel-") as folder:
        engines = Engines(Path(folder) / "engines")
        try:
            url = options.engine or f"http://127.0.0.1:{engines.start(MODEL).port}"
            found = asyncio.run(measure(Path(folder), Remote(url), streams=options.streams, rounds=options.rounds))
        finally:
            engines.stop(MODEL)
    print(json.dumps(found, indent=2))
    return 0 if all(found["passes"].values()) else 1


async def measure(folder: Path, engine: Remote, *, streams: int, rounds: int) -> dict[str, Any]:
    """Seconds until the engine is free, by round, through a sidecar and without one."""
    sidecar = Sidecar(folder, [engine])
    messages = [{"role": "user", "content": QUESTION}]
    plain = {"model": MODEL, "n": SAMPLES, "max_tokens": CAP_TOKENS // SAMPLES, "ignore_eos": True}
    votes = {"model": "auto", "rheostat": {"action": f"{MODEL}/self_consistency(k={SAMPLES})@{CAP_TOKENS}"}, "ignore_eos": True}
    try:
        await asyncio.to_thread(sidecar.wait, "/healthz")
        direct, through = [], []
        for _ in range(rounds):
            direct.append(await _round(engine, engine.url, streams, {**plain, "messages": messages, "stream": True}))
            through.append(await _round(engine, sidecar.url, streams, {**votes, "messages": messages, "stream": True}))
    finally:
        sidecar.end(signal.SIGTERM)
    return {
        "streams": streams,
        "samples_each": SAMPLES,
        "direct_s": _told(direct),
        "sidecar_s": _told(through),
        "passes": {"within the bar of the engine itself": statistics.median(through) <= statistics.median(direct) + BAR_S},
    }


async def _round(engine: Remote, url: str, streams: int, body: dict[str, Any]) -> float:
    """Seconds from the moment that all clients leave to the moment that the engine is free."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        clients = [asyncio.create_task(_client(session, url, body)) for _ in range(streams)]
        await _until(session, engine, lambda busy: busy >= streams)
        await asyncio.sleep(WORKING_S)
        left_s = time.perf_counter()
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await _until(session, engine, lambda busy: busy == 0)
        return time.perf_counter() - left_s


async def _client(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        async for _ in response.content.iter_any():
            pass


async def _until(session: aiohttp.ClientSession, engine: Remote, reached: Callable[[float], bool]) -> None:
    """Until the number of samples that the engine runs and holds is what is waited for."""
    while True:
        async with session.get(f"{engine.url}/metrics") as response:
            gauges = sum_metrics(await response.text())
        if reached(sum(gauges.get(name, 0.0) for name in GAUGES)):
            return
        await asyncio.sleep(LOOK_S)


def _told(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 3), "longest": round(max(seconds), 3)}


if __name__ == "__main__":
    sys.exit(main())
