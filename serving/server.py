"""One sidecar process: listens, serves until it is told to stop, and drains. What it serves is `sidecar`'s.

`python -m rheostat.serving.server --config rheostat.toml` runs one; `serve` is the same as a call.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from rheostat.data.errors import ConfigError, RheostatError
from rheostat.serving.config import Config, load
from rheostat.serving.connection import bounded
from rheostat.serving.fleet import Environ
from rheostat.serving.sidecar import Sidecar

YOUNG_OBJECTS = 10_000  # allocated and not freed, before the collector looks
# For which a thread that computes may keep the loop waiting: the store's writer, a bundle being read. Python's own 5 ms is late for
# a request that takes one.
TURN_S = 0.0005
BACKLOG = 2048  # connections the system holds while the loop is busy; uvicorn's own number


def serve(config: Config, *, environ: Environ, path: Path | None = None, on_ready: Callable[[str], None] = print) -> None:
    """Run a sidecar until SIGTERM or SIGINT, then drain it and write everything that is queued.

    Args:
        config: what `config.load` or `config.local` gave.
        environ: where the variables named in the config are looked up.
        path: the file it came from, whose changes are followed; None follows none.
        on_ready: told the address once requests are answered.

    Raises:
        ConfigError: a variable named in the config is not set, or a port is taken.
        StoreError: another process writes the same store, or the disk did not take the last records.
    """
    sidecar = Sidecar(config, environ=environ, path=path)
    sockets = listen(config)
    settings = uvicorn.Config(
        sidecar.app if len(sockets) == 1 else sidecar.with_admin(sockets[1].getsockname()[1]),
        host=config.server.host,
        port=config.server.port,
        loop="uvloop",
        http=bounded(sidecar.bounds),
        access_log=False,
        proxy_headers=False,  # nothing here depends on a client's address
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(config.server.drain_s)),
    )
    _Server(settings, on_ready).run(sockets=sockets)
    if sidecar.failure is not None:
        raise sidecar.failure


def listen(config: Config) -> list[socket.socket]:
    """The sockets of the sidecar and, where one is configured, of its admin listener.

    Raises:
        ConfigError: an address cannot be bound.
    """
    wanted = [("server", config.server.host, config.server.port)]
    if config.admin.port is not None:
        wanted.append(("admin", config.admin.host, config.admin.port))
    return [_bound(*each) for each in wanted]


def _bound(section: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"config: {section}: cannot listen on {host} port {port}: {error.strerror or error}: choose another") from error


def put_requests_first() -> None:
    """Have threads give way to the loop soon, and take what the start has made out of the garbage collector's sight.

    It lives as long as the process does, and every full look at it would stop all requests. What requests leave behind is
    freed by counting references, so that the collector need not look as often as it does by default.
    """
    sys.setswitchinterval(TURN_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


class _Server(uvicorn.Server):
    """Tells the address once the socket listens (with port 0 nobody knows it before), and ends with status 0 when told to stop."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        if self.started:
            put_requests_first()
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_ready(f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to drain; a second interrupt cuts it short. uvicorn's own would raise the signal again at the end."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def main(arguments: list[str] | None = None) -> int:
    """Run a sidecar from a config file. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m rheostat.serving.server", description="Run one Rheostat sidecar.")
    parser.add_argument("--config", type=Path, required=True, help="the TOML file, as in rheostat.toml")
    path = parser.parse_args(arguments).config
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        serve(load(path), environ=os.environ, path=path, on_ready=lambda url: print(f"serving on {url}", flush=True))
    except RheostatError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
