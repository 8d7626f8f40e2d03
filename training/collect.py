"""Collecting a log: every sampler over every task, on any number of backends, into the store.

Each backend takes its next call when it has room, so faster ones do more. What is in the store is not asked for again;
what came is there after a kill, bar at most one group commit. A call that fails is tried again, elsewhere if another
backend is free, and recorded as a failure in the end: nothing is dropped silently.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rheostat.data.answers import extract
from rheostat.data.errors import ConfigError, StoreError, UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.samples import KEY, samples_frame, write_samples
from rheostat.data.schema import Attempt, Query, Sample
from rheostat.data.store import OutcomeStore
from rheostat.data.tasks import load_tasks
from rheostat.data.verifiers import verifier_of
from rheostat.policies.base import Backend, Completion
from rheostat.training.bulk import BulkBackend
from rheostat.training.samplers import Job, Sampler, jobs

if TYPE_CHECKING:
    import polars as pl

CONCURRENCY = 128
CHUNK = 32
MAX_TRIES = 5
BACKOFF_S = 0.5
MAX_BACKOFF_S = 20.0
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
    """What a run brought: samples stored now and before, failures, and what the calls spent, cancelled ones included."""

    stored: int
    skipped: int
    failures: tuple[Failure, ...]
    ledger: Ledger
    estimated: int
    elapsed_s: float


OnProgress = Callable[[Progress], None]


def collect_now(
    tasks: Sequence[Query],
    samplers: Sequence[Sampler],
    backends: Mapping[str, Sequence[Backend]],
    store_path: Path,
    *,
    concurrency: int = CONCURRENCY,
    on_progress: OnProgress | None = None,
    seed: int = 0,
) -> Collected:
    """`collect` for callers without an event loop; Ctrl-C closes the calls upstream and keeps what came."""
    return asyncio.run(collect(tasks, samplers, backends, store_path, concurrency=concurrency, on_progress=on_progress, seed=seed))


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
) -> Collected:
    """Draw the samples that the store does not have yet.

    Args:
        backends: the servers of each model; closed at the end.
        concurrency: samples in flight on each backend.
        backoff_s: the pause of a backend after a first failure; doubles with each in a row.

    Raises:
        ConfigError: a sampler's model has no backend.
        StoreError: samples cannot be written; the run stops, so that no more of them are paid for.
    """
    _check_models(samplers, backends)
    store = OutcomeStore(store_path)
    try:
        todo = list(jobs(tasks, samplers, store.sample_keys(), chunk=min(CHUNK, concurrency)))
        run = _Run(store, todo, concurrency=concurrency, on_progress=on_progress, seed=seed, backoff_s=backoff_s)
        await run.over(backends)
        _confirm(store)
        wanted = len(tasks) * sum(sampler.k for sampler in samplers)
        return run.collected(skipped=wanted - run.total)
    finally:
        for backend in itertools.chain.from_iterable(backends.values()):
            await backend.close()
        store.close()


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
    """The state of one collection: queues by model, counts, failures, and the ledger of all calls (a Booking)."""

    def __init__(
        self, store: OutcomeStore, todo: Sequence[Job], *, concurrency: int, on_progress: OnProgress | None, seed: int, backoff_s: float
    ) -> None:
        self.total = sum(job.n for job in todo)
        self._store = store
        self._todo = todo
        self._concurrency = concurrency
        self._on_progress = on_progress
        self._seed = seed
        self._backoff_s = backoff_s
        self._started = time.perf_counter()
        self._ledger = Ledger()
        self._estimated = self._done = self._failed = 0
        self._failures: list[Failure] = []

    def book(self, attempt: Attempt) -> None:
        """Add what a call spent."""
        self._ledger = self._ledger + attempt.ledger
        self._estimated += attempt.ledger.generated if attempt.estimated else 0

    def collected(self, *, skipped: int) -> Collected:
        """The summary."""
        return Collected(
            stored=self._done,
            skipped=skipped,
            failures=tuple(self._failures),
            ledger=self._ledger,
            estimated=self._estimated,
            elapsed_s=time.perf_counter() - self._started,
        )

    async def over(self, backends: Mapping[str, Sequence[Backend]]) -> None:
        """Work all queues off; the first error that is not a backend's ends it and cancels the calls in flight."""
        queues: dict[str, asyncio.Queue[Job]] = {model: asyncio.Queue() for model in backends}
        for job in self._todo:
            queues[job.sampler.model].put_nowait(job)
        try:
            async with asyncio.TaskGroup() as group:
                lanes = [
                    group.create_task(_Lane(self, group, backend, queues[model], self._concurrency).drive())
                    for model, replicas in backends.items()
                    for backend in replicas
                ]
                for queue in queues.values():
                    await queue.join()
                for lane in lanes:
                    lane.cancel()
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None

    async def attempt(self, backend: Backend, job: Job) -> Job | None:
        """Make one call. Returns the job to try again, or None when it is settled."""
        try:
            generation = await backend.generate(job.sampler.request(job.query, job.start, job.n, self._seed), self)
        except UpstreamError as error:
            if error.retryable and job.tries + 1 < MAX_TRIES:
                return msgspec.structs.replace(job, tries=job.tries + 1)
            self._give_up(job, str(error))
        else:
            self._keep(job, generation.completions, generation.attempt)
        self._report()
        return None

    def pause_s(self, failures_in_row: int) -> float:
        """How long a backend that just failed is left alone: doubling, bounded, with jitter."""
        return min(MAX_BACKOFF_S, self._backoff_s * 2.0 ** (failures_in_row - 1)) * random.uniform(0.5, 1.0)

    def _keep(self, job: Job, completions: Sequence[Completion], attempt: Attempt) -> None:
        for completion in completions:
            if not self._store.put(_sample(job, completion, attempt)):
                raise StoreError(f"{self._store.path}: samples are not being written: free some disk or fix its permissions, and run again")
        if not self._store.healthy:
            raise StoreError(f"{self._store.path}: the disk does not take samples: free some space or fix its permissions, and run again")
        self._done += len(completions)
        if len(completions) < job.n:
            self._give_up(
                msgspec.structs.replace(job, start=job.start + len(completions), n=job.n - len(completions)), "sent too few samples"
            )

    def _give_up(self, job: Job, error: str) -> None:
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

    def _report(self) -> None:
        if self._on_progress is not None:
            elapsed = time.perf_counter() - self._started
            tokens = self._ledger.generated
            self._on_progress(Progress(done=self._done, failed=self._failed, total=self.total, tokens=tokens, elapsed_s=elapsed))


class _Lane:
    """One backend's share of its model's queue: at most `room` samples in flight, and a pause after failures."""

    def __init__(self, run: _Run, group: asyncio.TaskGroup, backend: Backend, queue: asyncio.Queue[Job], room: int) -> None:
        self._run = run
        self._group = group
        self._backend = backend
        self._queue = queue
        self._room = room
        self._freed = asyncio.Event()
        self._failures_in_row = 0

    async def drive(self) -> None:
        """Start calls as there is room, until cancelled."""
        while True:
            if self._failures_in_row:
                await asyncio.sleep(self._run.pause_s(self._failures_in_row))
            job = await self._queue.get()
            while self._room < job.n:
                self._freed.clear()
                await self._freed.wait()
            self._room -= job.n
            self._group.create_task(self._call(job))

    async def _call(self, job: Job) -> None:
        again = await self._run.attempt(self._backend, job)
        self._failures_in_row = self._failures_in_row + 1 if again else 0
        if again:
            self._queue.put_nowait(again)
        self._room += job.n
        self._freed.set()
        self._queue.task_done()


def export(store_path: Path, path: Path) -> int:
    """Write the store's samples as a Parquet log, in the order of their keys, so that equal logs are equal files.

    Returns:
        The number of rows.
    """
    import polars as pl

    with OutcomeReader(store_path) as store:
        log = pl.concat(_frames(store.samples())).sort(KEY)
    write_samples(path, log)
    return len(log)


def _frames(samples: Iterator[Sample]) -> Iterator[pl.DataFrame]:
    """The samples as frames, page by page: as records they would fill the memory."""
    while True:
        frame = samples_frame(itertools.islice(samples, EXPORT_PAGE))
        yield frame
        if len(frame) < EXPORT_PAGE:
            return


def _sample(job: Job, completion: Completion, attempt: Attempt) -> Sample:
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
        correct=verifier_of(query.dataset).verify(query.text, answer, query.reference, kind),
        prompt_tokens=attempt.ledger.prompt,
        completion_tokens=completion.completion_tokens,
        latency_s=attempt.latency_s,
        kind=kind,
        level=query.level,
        mean_logprob=completion.mean_logprob,
        finish_reason=completion.finish_reason,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m rheostat.training.collect`: returns 0, 1 where samples are missing, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    tasks = load_tasks(options.tasks, n=options.n, seed=options.seed)
    samplers = [Sampler.parse(spelling, options.model) for spelling in options.sampler]
    backends = {options.model: [BulkBackend(url, url, model=options.served_name or options.model) for url in options.url]}
    try:
        collected = collect_now(
            tasks, samplers, backends, options.store, concurrency=options.concurrency, seed=options.seed, on_progress=_Line()
        )
    except KeyboardInterrupt:
        print("\nstopped: what came is stored; the same command goes on from there", file=sys.stderr)
        return 130
    print(f"\n{summary(collected)}", file=sys.stderr)
    if options.export:
        print(f"{export(options.store, options.export)} rows in {options.export}", file=sys.stderr)
    return 1 if collected.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rheostat.training.collect", description="Collect samples into a store.")
    parser.add_argument("--tasks", default="pocket", help="task set: pocket, reasoning_gym:NAME, or a .jsonl")
    parser.add_argument("--n", type=int, default=None, help="number of queries")
    parser.add_argument("--url", action="append", required=True, help="root of a server; repeat for replicas")
    parser.add_argument("--model", required=True, help="the model's name in the log")
    parser.add_argument("--served-name", default=None, help="the model's name on the server, where it differs")
    parser.add_argument("--sampler", action="append", required=True, help="prompt:temperature:samples[:max_tokens]; repeat")
    parser.add_argument("--store", type=Path, required=True, help="SQLite store to write and resume from")
    parser.add_argument("--export", type=Path, default=None, help="Parquet to write at the end")
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY, help="samples in flight on each server")
    parser.add_argument("--seed", type=int, default=0)
    return parser


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


class _Line:
    """Progress as one line on standard error, at most twice a second."""

    def __init__(self) -> None:
        self._printed_s = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._printed_s < 0.5 and progress.done + progress.failed < progress.total:
            return
        self._printed_s = now
        left = "?" if progress.left_s is None else f"{progress.left_s:.0f}"
        counts = f"{progress.done}/{progress.total} samples, {progress.failed} failed"
        print(f"\r{counts}, {progress.tokens_per_s:.0f} tokens/s, {left} s left   ", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
