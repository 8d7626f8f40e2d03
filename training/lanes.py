"""The backends of one model at work on one queue of calls.

Each backend has a lane that takes the next call when it has room, so faster ones do more. A call that fails goes back
to the queue, where another lane may take it; a lane that only fails is paused for longer and longer and then closed,
and when the last one closes the rest is given up. Knows nothing of samples or stores.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import Backend, Booking, GenerateRequest, Generation
from rheostat.training.samplers import Job

log = logging.getLogger(__name__)

MAX_TRIES = 5
BACKOFF_S = 0.5
MAX_BACKOFF_S = 20.0
PATIENCE_S = 120.0


class Work(Booking, Protocol):
    """What the lanes work for."""

    def request(self, job: Job) -> GenerateRequest:
        """The call of a job."""
        ...

    async def keep(self, job: Job, generation: Generation) -> None:
        """Take what a call brought."""
        ...

    def give_up(self, job: Job, error: str) -> None:
        """Note that a job will not be done."""
        ...


class Pool:
    """A queue of jobs and the lanes that work on it.

    Args:
        room: samples in flight in each lane.
        backoff_s: the pause after a lane's first failure; doubles until something succeeds.
        patience_s: seconds of nothing but failures after which a lane closes.
    """

    def __init__(
        self,
        work: Work,
        backends: Sequence[Backend],
        todo: Iterable[Job],
        *,
        room: int,
        backoff_s: float = BACKOFF_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.work = work
        self.backoff_s = backoff_s
        self.patience_s = patience_s
        self.queue: asyncio.Queue[Job] = asyncio.Queue()
        for job in todo:
            self.queue.put_nowait(job)
        self._lanes = [_Lane(self, backend, room) for backend in backends]
        self._open = len(self._lanes)

    async def run(self) -> None:
        """Until every job is kept or given up; an error that is not a backend's cancels the calls in flight."""
        async with asyncio.TaskGroup() as group:
            drivers = [group.create_task(lane.drive(group)) for lane in self._lanes]
            await self.queue.join()
            for driver in drivers:
                driver.cancel()

    def failed(self, job: Job, error: UpstreamError) -> None:
        """Queue a job again, or give it up when that is of no use."""
        if error.retryable and job.tries + 1 < MAX_TRIES and self._open:
            self.queue.put_nowait(msgspec.structs.replace(job, tries=job.tries + 1))
        else:
            self.work.give_up(job, str(error))

    def close_lane(self, error: str) -> None:
        """One lane less; with the last one go the jobs that wait."""
        self._open -= 1
        while not self._open and not self.queue.empty():
            self.work.give_up(self.queue.get_nowait(), error)
            self.queue.task_done()


class _Lane:
    """One backend: its room, and how it has been doing."""

    def __init__(self, pool: Pool, backend: Backend, room: int) -> None:
        self._pool = pool
        self._backend = backend
        self._room = room
        self._freed = asyncio.Event()
        self._pauses = 0
        self._failing_since_s: float | None = None
        self._error = ""

    async def drive(self, group: asyncio.TaskGroup) -> None:
        """Start calls as there is room, until cancelled or closed."""
        while True:
            if self._failing_since_s is not None:
                if time.monotonic() - self._failing_since_s >= self._pool.patience_s:
                    self._pool.close_lane(self._error)
                    return
                await asyncio.sleep(self._pause_s())
            job = await self._pool.queue.get()
            while self._room < job.n:
                self._freed.clear()
                await self._freed.wait()
            self._room -= job.n
            group.create_task(self._call(job))

    async def _call(self, job: Job) -> None:
        try:
            generation = await self._backend.generate(self._pool.work.request(job), self._pool.work)
        except UpstreamError as error:
            self._note_failure(error)
            self._pool.failed(job, error)
        else:
            self._failing_since_s, self._pauses = None, 0
            await self._pool.work.keep(job, generation)
        self._room += job.n
        self._freed.set()
        self._pool.queue.task_done()

    def _note_failure(self, error: UpstreamError) -> None:
        """A refusal says something about the call, not about the backend."""
        if error.retryable:
            self._error = str(error)
            if self._failing_since_s is None:
                log.warning("%s: trying again for %g s", error, self._pool.patience_s)
            self._failing_since_s = self._failing_since_s or time.monotonic()

    def _pause_s(self) -> float:
        """Doubling, bounded, with jitter."""
        self._pauses += 1
        return min(MAX_BACKOFF_S, self._pool.backoff_s * 2.0 ** (self._pauses - 1)) * random.uniform(0.5, 1.0)
