"""Follows the configuration file: a change is read, checked as a whole, and applied while requests are served.

Backends, tiers, keys, limits and congestion change live. What else changes needs a restart and is refused with a sentence that
says so; a refused file changes nothing at all, and the sidecar goes on as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from rheostat.data.errors import ConfigError
from rheostat.serving.config import Config, parse, read_text
from rheostat.serving.metrics import Metrics

LIVE = ("backend", "tier", "key", "limits", "congestion")
LOOK_S = 1.0
log = logging.getLogger(__name__)

Apply = Callable[[Config], None]


class ConfigStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What /readyz shows: how often the file was applied since the start, and why its last change was not."""

    applied: int = 0
    error: str | None = None


class ConfigWatch:
    """Applies changes of one file.

    Args:
        path: the file the running configuration came from.
        apply: takes over the live sections of a checked configuration; raises ConfigError where it cannot.
        on_refused: told why a change was not applied, once.
        metrics: counts reloads by result.

    Raises:
        ConfigError: the file does not hold a configuration now.
    """

    def __init__(self, path: Path, *, apply: Apply, on_refused: Callable[[str], None], metrics: Metrics) -> None:
        self.status = ConfigStatus()
        self._path = path
        self._apply = apply
        self._on_refused = on_refused
        self._metrics = metrics
        text = read_text(path)
        self._text: str | None = text
        self._config = parse(text)
        self._look_now = asyncio.Event()

    async def run(self) -> None:
        """Look again and again, at once when `look_soon` was called, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._look_now.wait()
            except TimeoutError:
                pass
            self._look_now.clear()
            await self.look()

    def look_soon(self) -> None:
        """Do not wait for the next look: what SIGHUP asks for."""
        self._look_now.set()

    async def look(self) -> None:
        """Read the file, and apply it where it changed."""
        try:
            # Nothing, until it is read: a file that comes back is taken anew, also as it was.
            before, self._text = self._text, None
            self._text = await asyncio.to_thread(read_text, self._path)
            if self._text != before:
                self._take(parse(self._text))
        except ConfigError as error:
            self._refused(str(error))

    def _take(self, config: Config) -> None:
        fixed = [name for name in config.__struct_fields__ if name not in LIVE and getattr(config, name) != getattr(self._config, name)]
        if fixed:
            raise ConfigError(f"config: [{fixed[0]}] changed, which takes a restart: restart, or take the change back")
        self._apply(config)
        self._config = config
        self.status = ConfigStatus(applied=self.status.applied + 1)
        self._metrics.config_reloads.labels("applied").inc()
        log.info("applied the changed config %s", self._path)

    def _refused(self, why: str) -> None:
        if why == self.status.error:
            return
        log.warning("kept the running config: %s", why)
        self.status = msgspec.structs.replace(self.status, error=why)
        self._metrics.config_reloads.labels("refused").inc()
        self._on_refused(why)
