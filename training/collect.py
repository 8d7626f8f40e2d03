"""Collecting a log: every sampler over every task, on any number of backends, into the store.

What is in the store is not asked for again, unless its question or reference is another by now; what came is there after a
kill, bar at most one group commit. A call that fails is tried again and recorded as a failure in the end: nothing is dropped
silently.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rheostat.data.answers import extract
from rheostat.data.errors import ConfigError, StoreError
from rheostat.data.ledger import Ledger
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.samples import KEY, check_samples, samples_frame, write_samples
from rheostat.data.schema import Attempt, Query, Sample
from rheostat.data.store import OutcomeStore
from rheostat.data.verifiers import Verifier, grade_aside, verifier_of
from rheostat.policies.base import Backend, Completion, GenerateRequest, Generation
from rheostat.training.asked import Asked, Graded
from rheostat.training.lanes import BACKOFF_S, PATIENCE_S, Pool
from rheostat.training.samplers import Job, Sampler, jobs

if TYPE_CHECKING:
    import polars as pl

CONCURRENCY = 128
CHUNK = 32
FLUSH_TIMEOUT_S = 60.0
EXPORT_PAGE = 20_000


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a collection is: samples of this run, tokens they took, seconds since it began."""

    done: int
    failed: int
    total: int
    tokens: int
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens a second so far."""
        return self.tokens / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at the speed so far; None before the first sample."""
        settled = self.done + self.failed
        return (self.total - settled) * self.elapsed_s / settled if settled else None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was given up: these samples are not in the log."""

    dataset: str
    query_id: str
    model: str
    strategy: str
    start: int
    n: int
    error: str


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a run brought: samples stored now and before, failures, and what the calls spent, cancelled ones included.

    `changed` counts the tasks whose question or reference is not the one stored under their id, which are collected anew;
    `graded` is by model, of all that was asked for, what was there before included.
    """

    stored: int
    skipped: int
    changed: int
    graded: dict[str, Graded]
    failures: tuple[Failure, ...]
    ledger: Ledger
    estimated: int
    elapsed_s: float


OnProgress = Callable[[Progress], None]


async def collect(
    tasks: Sequence[Query],
    samplers: Sequence[Sampler],
    backends: Mapping[str, Sequence[Backend]],
    store_path: Path,
    *,
    concurrency: int = CONCURRENCY,
    on_progress: OnProgress | None = None,
    seed: int = 0,
    backoff_s: float = BACKOFF_S,
    patience_s: float = PATIENCE_S,
    verifier: Verifier | None = None,
) -> Collected:
    """Draw the samples that the store does not have yet. Cancelled, it closes the calls upstream and keeps what came.

    Args:
        backends: the servers of each model; closed at the end.
        concurrency: samples in flight on each backend.
        backoff_s: the pause of a backend after a first failure; doubles until something succeeds.
        patience_s: seconds of nothing but failures after which a backend is left; the samples of a model that has no
            other are reported as failed.
        verifier: grades the answers; what fits the data set where None.

    Raises:
        ConfigError: a sampler's model has no backend.
        StoreError: samples cannot be written; the run stops, so that no more of them are paid for.
    """
    _check_models(samplers, backends)
    store = OutcomeStore(store_path)
    try:
        asked = Asked(tasks, samplers, store.samples())
        todo = list(jobs(asked.tasks, samplers, store.sample_keys(), chunk=min(CHUNK, concurrency)))
        total = sum(job.n for job in todo)
        run = _Run(store, total, on_progress=on_progress, seed=seed, verifier=verifier)
        pools = [
            Pool(
                run,
                replicas,
                (job for job in todo if job.sampler.model == model),
                room=concurrency,
                backoff_s=backoff_s,
                patience_s=patience_s,
            )
            for model, replicas in backends.items()
        ]
        await _work_off(pools)
        _confirm(store)
        skipped = len(tasks) * sum(sampler.k for sampler in samplers) - total
        return run.collected(skipped=skipped, changed=asked.changed, graded=asked.graded(store.samples()))
    finally:
        for backend in itertools.chain.from_iterable(backends.values()):
            await backend.close()
        store.close()


async def _work_off(pools: Sequence[Pool]) -> None:
    """All pools at once; of what went wrong the first error is the one to tell."""
    try:
        async with asyncio.TaskGroup() as group:
            for pool in pools:
                group.create_task(pool.run())
    except ExceptionGroup as together:
        error: Exception = together
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        raise error from None


def _confirm(store: OutcomeStore) -> None:
    """Every sample is on disk, or an error says that it is not."""
    if not store.flush(FLUSH_TIMEOUT_S):
        raise StoreError(f"{store.path}: samples could not be written within {FLUSH_TIMEOUT_S:.0f} s: free some disk and run again")
    stats = store.stats()
    if stats.rejected:
        raise StoreError(f"{store.path}: {stats.rejected} samples could not be encoded: their answers hold no valid text; run again")


def _check_models(samplers: Iterable[Sampler], backends: Mapping[str, Sequence[Backend]]) -> None:
    for sampler in samplers:
        if not backends.get(sampler.model):
            known = ", ".join(sorted(backends)) or "none"
            raise ConfigError(f"no backend for model {sampler.model!r} (backends for: {known}): give its url")


class _Run:
    """The state of one collection: counts, failures, and the ledger of all calls (the lanes' Work)."""

    def __init__(
        self, store: OutcomeStore, total: int, *, on_progress: OnProgress | None, seed: int, verifier: Verifier | None = None
    ) -> None:
        self._store = store
        self._total = total
        self._on_progress = on_progress
        self._seed = seed
        self._verifier = verifier
        self._started = time.perf_counter()
        self._ledger = Ledger()
        self._estimated = self._done = self._failed = 0
        self._failures: list[Failure] = []

    def book(self, attempt: Attempt) -> None:
        """Add what a call spent."""
        self._ledger = self._ledger + attempt.ledger
        self._estimated += attempt.ledger.generated if attempt.estimated else 0

    def request(self, job: Job) -> GenerateRequest:
        """The call of a job."""
        return job.sampler.request(job.query, job.start, job.n, self._seed)

    async def keep(self, job: Job, generation: Generation) -> None:
        """Store and count what a call brought."""
        came = len(generation.completions)
        samples = (_sample(job, completion, generation.attempt, self._verifier) for completion in generation.completions)
        for sample in await asyncio.gather(*samples):
            if not self._store.put(sample):
                raise StoreError(f"{self._store.path}: samples are not being written: free some disk or fix its permissions, and run again")
        if not self._store.healthy:
            raise StoreError(f"{self._store.path}: the disk does not take samples: free some space or fix its permissions, and run again")
        self._done += came
        if came < job.n:
            self.give_up(msgspec.structs.replace(job, start=job.start + came, n=job.n - came), "the backend sent too few samples")
        self._report()

    def give_up(self, job: Job, error: str) -> None:
        """Count and remember samples that will be missing."""
        self._failed += job.n
        self._failures.append(
            Failure(
                dataset=job.query.dataset,
                query_id=job.query.query_id,
                model=job.sampler.model,
                strategy=job.sampler.strategy,
                start=job.start,
                n=job.n,
                error=error,
            )
        )
        self._report()

    def collected(self, *, skipped: int, changed: int, graded: dict[str, Graded]) -> Collected:
        """The summary."""
        return Collected(
            stored=self._done,
            skipped=skipped,
            changed=changed,
            graded=graded,
            failures=tuple(self._failures),
            ledger=self._ledger,
            estimated=self._estimated,
            elapsed_s=time.perf_counter() - self._started,
        )

    def _report(self) -> None:
        if self._on_progress is not None:
            elapsed = time.perf_counter() - self._started
            tokens = self._ledger.generated
            self._on_progress(Progress(done=self._done, failed=self._failed, total=self._total, tokens=tokens, elapsed_s=elapsed))


def export(store_path: Path, path: Path, tasks: Sequence[Query], samplers: Sequence[Sampler], *, runs: pl.DataFrame | None = None) -> int:
    """Write the samples of a task set as a Parquet log, in the order of their keys, so that equal logs are equal files.

    Args:
        store_path: the store, which may hold others too.
        path: the log; it is there whole or not at all.
        tasks: whose samples.
        samplers: and drawn how.
        runs: rows of strategies that were run whole, to stand among the samples; `sweep_report.frame_of` gives them.

    Returns:
        The number of rows.
    """
    import polars as pl

    with OutcomeReader(store_path) as store:
        samples = Asked(tasks, samplers, store.samples()).of(store.samples())
        log = pl.concat([*_frames(samples), *([] if runs is None else [check_samples(runs, "runs")])]).sort(KEY)
    write_samples(path, log)
    return len(log)


def _frames(samples: Iterator[Sample]) -> Iterator[pl.DataFrame]:
    """The samples as frames, page by page: as records they would fill the memory."""
    while True:
        frame = samples_frame(itertools.islice(samples, EXPORT_PAGE))
        yield frame
        if len(frame) < EXPORT_PAGE:
            return


async def _sample(job: Job, completion: Completion, attempt: Attempt, verifier: Verifier | None) -> Sample:
    query, sampler = job.query, job.sampler
    kind = query.kind or "text"
    answer = extract(completion.text, kind)
    return Sample(
        dataset=query.dataset,
        query_id=query.query_id,
        query_text=query.text,
        model=sampler.model,
        strategy=sampler.strategy,
        sample_index=job.start + completion.index,
        temperature=sampler.temperature,
        answer=answer,
        gold=query.reference or "",
        correct=await grade_aside(verifier or verifier_of(query.dataset), query, reply=completion.text, answer=answer),
        prompt_tokens=attempt.ledger.prompt,
        completion_tokens=completion.completion_tokens,
        latency_s=attempt.latency_s,
        kind=kind,
        level=query.level,
        mean_logprob=completion.mean_logprob,
        finish_reason=completion.finish_reason,
    )


def summary(collected: Collected) -> str:
    """What a run brought, in words; failures are named."""
    lines = [
        f"{collected.stored} samples stored, {collected.skipped} were there before; "
        f"{collected.ledger.generated} tokens in {collected.elapsed_s:.0f} s"
    ]
    if collected.failures:
        missing = sum(failure.n for failure in collected.failures)
        lines.append(
            f"{missing} samples failed in {len(collected.failures)} calls; run again to retry. First: {collected.failures[0].error}"
        )
    return "\n".join(lines)
