"""Follows where bundles come from and swaps to a new one: a folder, or the champion in MLflow (see `registry`).

A bundle is fetched into a temporary folder, its hashes are checked, a child process loads it and predicts its canary
rows (a broken model file can crash whoever reads it), and only then is one reference swapped. Whatever goes wrong, the
last good bundle stays, in memory and on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from rheostat.data.errors import BundleError, RegistryError, RheostatError
from rheostat.router.ask import Decides
from rheostat.router.bundle import Bundle, NotCheckedError, check_canary, check_in_child
from rheostat.serving.decider import Decider, Reading, Serving
from rheostat.serving.metrics import Metrics

CURRENT = "current"
KEPT_VERSIONS = 3
LOOK_S = 10.0
MOST_LEFT_OUT = 63  # looks between two checks of a bundle for which there may be no memory
log = logging.getLogger(__name__)

MakeController = Callable[[Bundle], Decides]


class NoBundleYetError(RegistryError):
    """The source is there and has no bundle: a fault only where it had one."""


class Source(Protocol):
    """Where bundles come from. Versions are short names; a changed bundle has another one."""

    async def latest(self) -> str | None:
        """The version to serve; None where there is none yet.

        Raises:
            RegistryError: the source is out of reach.
        """
        ...

    async def fetch(self, version: str, folder: Path) -> None:
        """Copy that version's files into a folder that does not exist yet.

        Raises:
            RegistryError: the source is out of reach.
            BundleError: what it has is no bundle.
        """
        ...


class FolderSource:
    """A bundle folder on this machine; its version is the hash of its manifest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def latest(self) -> str | None:
        """The version of the folder as it is now.

        Raises:
            NoBundleYetError: nothing is there.
        """
        try:
            manifest = (self._folder / "manifest.json").read_bytes()
        except OSError as error:
            raise NoBundleYetError(f"there is no bundle in {self._folder}: fit one with `rheostat train`") from error
        return hashlib.sha256(manifest).hexdigest()[:16]

    async def fetch(self, version: str, folder: Path) -> None:
        """Copy the folder, which must hold the version before and after: a copy of two versions is neither."""
        try:
            await asyncio.to_thread(shutil.copytree, self._folder, folder, symlinks=True)
        except (OSError, shutil.Error) as error:
            raise RegistryError(f"the bundle in {self._folder} cannot be copied: {error}") from error
        if await self.latest() != version:
            raise RegistryError(f"the bundle in {self._folder} changed while it was copied: it is fetched at the next look")


class Cache:
    """The last good bundles on disk: `<version>/` folders and a file `current` that names one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def current(self) -> tuple[str, Path] | None:
        """The version kept last and its folder, where it is still there."""
        try:
            version = (self._folder / CURRENT).read_text(encoding="utf-8").strip()
        except OSError:
            return None
        folder = self._folder / version
        return (version, folder) if _is_version(version) and folder.is_dir() else None

    def staging(self) -> tempfile.TemporaryDirectory[str]:
        """A temporary folder on the same disk, so that a bundle can be moved into place."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._folder)

    def keep(self, version: str, folder: Path) -> Path:
        """Move a checked bundle into place and name it current; the oldest ones go."""
        kept = self._folder / version
        if kept.exists():
            shutil.rmtree(kept)
        folder.rename(kept)
        pointer = self._folder / f".{CURRENT}"
        pointer.write_text(version, encoding="utf-8")
        pointer.replace(self._folder / CURRENT)
        self._drop_old(version)
        return kept

    def _drop_old(self, current: str) -> None:
        others = [path for path in self._folder.iterdir() if path.is_dir() and _is_version(path.name) and path.name != current]
        for path in sorted(others, key=lambda path: path.stat().st_mtime)[: -(KEPT_VERSIONS - 1) or None]:
            shutil.rmtree(path, ignore_errors=True)


class ReloadStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What /readyz shows: the source's version being served, and what went wrong last, if anything has since."""

    version: str | None = None
    failures: int = 0
    error: str | None = None


class _Refused(NamedTuple):
    """The version that was refused last, and why."""

    version: str
    why: str


class _Unchecked(NamedTuple):
    """A version that could not be checked, how often, and how many looks are left out before it is tried again."""

    version: str
    times: int
    left_out: int

    def again(self, version: str) -> _Unchecked:
        """After one more time: at the next look, then after 1, 3, 7 and so on, for each try takes a child's memory."""
        times = self.times + 1 if version == self.version else 1
        return _Unchecked(version, times, min(2 ** (times - 1) - 1, MOST_LEFT_OUT))


class _Made(NamedTuple):
    """A bundle, what serves it, and how often a controller had been asked for anew when it was made."""

    bundle: Bundle
    serving: Serving
    n_asked: int


class Watcher:
    """Keeps the decider on the source's latest good bundle.

    Args:
        source: where bundles come from.
        cache: where the last good one is kept.
        decider: what is swapped.
        make_controller: bundle to controller, with this installation's prices.
        metrics: counts reloads by result.
        poll_s: seconds between looks, with a tenth of jitter so that a fleet does not ask in step.
    """

    def __init__(
        self, source: Source, *, cache: Cache, decider: Decider, make_controller: MakeController, metrics: Metrics, poll_s: float
    ) -> None:
        self.status = ReloadStatus()
        self._source = source
        self._cache = cache
        self._decider = decider
        self._make_controller = make_controller
        self._metrics = metrics
        self._poll_s = poll_s
        self._refused: _Refused | None = None
        self._unchecked = _Unchecked("", 0, 0)
        self._made: _Made | None = None
        self._n_asked = 0
        self._soon = asyncio.Event()

    async def start(self) -> None:
        """Serve the latest bundle, or the one kept on disk while the source is away."""
        if await self.check():
            return
        kept = self._cache.current()
        if kept is None:
            return
        version, folder = kept
        try:
            self._swap(version, await asyncio.to_thread(self._load, folder))
        except Exception as error:  # whatever a damaged bundle breaks, requests are served without one
            log.info("loading the kept bundle failed", exc_info=True)
            self._failed(f"the bundle kept in {folder} cannot be served: {error or type(error).__name__}")

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s * random.uniform(0.9, 1.1)):
                    await self._soon.wait()
            self._soon.clear()
            await self.check()

    def remake(self) -> None:
        """Have the controller made anew soon: it was made for models and prices that have changed."""
        self._n_asked += 1
        self._soon.set()

    async def check(self) -> bool:
        """Look once. Returns whether the source's latest bundle is the one being served, under the configuration as it is."""
        # In this order: where the bundle does not fit a changed configuration, the next one may.
        is_latest = await self._tried(self._update)
        is_up_to_date = await self._tried(self._bring_up_to_date)
        if is_latest and is_up_to_date and self.status.error:
            self.status = msgspec.structs.replace(self.status, error=None)
        return is_latest and is_up_to_date

    async def _tried(self, step: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await step()
        except NoBundleYetError as error:
            self._failed(str(error), is_fault=self.status.version is not None)
        except (RheostatError, OSError) as error:
            self._failed(str(error) or f"the source of bundles did not answer within {LOOK_S} s")
        except Exception as error:  # the loop must outlive whatever a registry sends
            log.exception("looking for a new bundle failed")
            self._failed(type(error).__name__)
        return False

    async def _update(self) -> bool:
        async with asyncio.timeout(LOOK_S):
            version = await self._source.latest()
        if version is None:
            return False
        if self._refused is not None and version == self._refused.version:
            if self.status.error is None:
                raise BundleError(self._refused.why)
            return False
        if version == self.status.version:
            return True
        if version == self._unchecked.version and self._unchecked.left_out:
            self._unchecked = self._unchecked._replace(left_out=self._unchecked.left_out - 1)
            return False
        await self._take(version)
        return True

    async def _take(self, version: str) -> None:
        if not _is_version(version):
            raise BundleError(f"{version!r} is no name of a version")
        with self._cache.staging() as staging:
            folder = Path(staging, "bundle")
            await self._source.fetch(version, folder)
            try:
                await asyncio.to_thread(check_in_child, folder)
                made = await asyncio.to_thread(self._load, folder)
            except NotCheckedError:
                self._unchecked = self._unchecked.again(version)
                raise
            except BundleError as error:
                # By the time it is read, the folder it was checked in is gone.
                why = str(error).replace(str(folder), version)
                # The same files will not get better: ask again only for another version.
                self._refused = _Refused(version, why)
                raise BundleError(why) from error
            self._cache.keep(version, folder)
            self._swap(version, made)

    async def _bring_up_to_date(self) -> bool:
        """Serve the same bundle with a new controller, where one was asked for since. False where it was again meanwhile."""
        if self._made is not None and self._made.n_asked < self._n_asked:
            self._made = await asyncio.to_thread(self._make, self._made.bundle)
            self._decider.swap(self._made.serving)
        return self._made is None or self._made.n_asked == self._n_asked

    def _swap(self, version: str, made: _Made) -> None:
        self._made = made
        self._decider.swap(made.serving)
        self.status = msgspec.structs.replace(self.status, version=version)
        self._metrics.reloads.labels("swapped").inc()
        log.info("serving bundle %s", made.serving.version)

    def _load(self, folder: Path) -> _Made:
        bundle = Bundle.load(folder)
        # Trees are parsed at the first prediction: milliseconds that belong in this thread, not on the loop.
        check_canary(bundle)
        return self._make(bundle)

    def _make(self, bundle: Bundle) -> _Made:
        n_asked = self._n_asked
        controller = self._make_controller(bundle)
        reading = Reading.IN_THREAD if bundle.encoder_folder is None else Reading.TOGETHER
        return _Made(bundle, Serving(controller=controller, version=bundle.version, reading=reading), n_asked)

    def _failed(self, error: str, *, is_fault: bool = True) -> None:
        if error != self.status.error:
            log.warning("kept bundle %s: %s", self._decider.version, error)
        self.status = ReloadStatus(version=self.status.version, failures=self.status.failures + is_fault, error=error)
        self._metrics.reloads.labels("failed").inc(is_fault)


def _is_version(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", name) is not None
