"""Sidecars and fake engines as processes, and clients that load them: what `soak` and `failover` share."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from rheostat.policies.scrape import sum_metrics

START_S = 120.0
QUESTION = [{"role": "user", "content": "What is 2 plus 3?"}]


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def get(url: str) -> bytes:
    """The body of a page."""
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - loopback
        return bytes(response.read())


class Process:
    """A child process that answers under a URL; its output goes to a file."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.log = log
        with log.open("wb") as output:
            self.child = subprocess.Popen(command, stdout=output, stderr=output)

    def wait(self, path: str) -> None:
        """Until it answers."""
        end = time.monotonic() + START_S
        while True:
            try:
                get(self.url + path)
            except OSError:
                if self.child.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{self.log} says why it did not start: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.1)
            else:
                return

    def end(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; returns its exit status."""
        if self.child.poll() is None:
            self.child.send_signal(sent)
        return self.child.wait(timeout=60)


class Engine(Process):
    """A fake vLLM server that can be told what to do wrong."""

    def __init__(self, folder: Path, *, token_s: float) -> None:
        port = free_port()
        options = ["--port", str(port), "--model", "pocket", "--token-s", str(token_s)]
        super().__init__([sys.executable, "-m", "rheostat.policies.fake_server", *options], port, folder / f"engine-{port}.log")

    def does(self, *faults: str) -> None:
        """From the next call on, these faults in turn."""
        body = json.dumps({"faults": faults}).encode()
        urllib.request.urlopen(f"{self.url}/control", body, timeout=30).close()  # noqa: S310 - loopback

    @property
    def generated(self) -> int:
        """Tokens it generated, by its own count."""
        return int(sum_metrics(get(f"{self.url}/metrics").decode()).get("generation_tokens_total", 0.0))


class HasUrl(Protocol):
    """An engine, whoever started it."""

    url: str


class Sidecar(Process):
    """A sidecar over some engines, all of one model."""

    def __init__(self, folder: Path, engines: Sequence[HasUrl]) -> None:
        port = free_port()
        self.store = folder / f"outcomes-{port}.db"
        self.requests_log = folder / f"requests-{port}.jsonl"
        backends = "".join(f'[[backend]]\nname = "e{i}"\nurl = "{e.url}"\nmodel = "pocket"\n' for i, e in enumerate(engines))
        config = folder / f"rheostat-{port}.toml"
        config.write_text(f'{backends}[store]\npath = "{self.store}"\n[server]\nport = {port}\n[log]\nrequests = "{self.requests_log}"\n')
        super().__init__([sys.executable, "-m", "rheostat.serving.server", "--config", str(config)], port, folder / f"sidecar-{port}.log")


@dataclass
class Seen:
    """What clients saw."""

    asked: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    answered: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)


async def ask(session: aiohttp.ClientSession, url: str, seen: Seen, fields: dict[str, Any]) -> bool:
    """One request, counted whatever comes of it; errors of the connection are counted by name. Whether it was answered."""
    seen.asked += 1
    started = time.monotonic()
    try:
        async with session.post(f"{url}/v1/chat/completions", json={"model": "auto", "messages": QUESTION, **fields}) as response:
            body = await response.read()
            complete = response.status == 200 and (not fields.get("stream") or b"[DONE]" in body)
            seen.statuses[str(response.status) if complete or response.status != 200 else "200, error event"] += 1
            if complete:
                seen.answered.append(response.headers["x-rheostat-decision"])
                seen.latencies_s.append(time.monotonic() - started)
            return complete
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        seen.statuses[type(error).__name__] += 1
        return False
    except asyncio.CancelledError:
        seen.statuses["client left"] += 1
        raise


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0
