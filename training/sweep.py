"""Running actions whole, each on every query of a task set, into the store: how right and how dear each was.

What is in the store is not run again; what came is there after a kill, bar at most one group commit. A run that fails is
tried again, reported in the end, and tried anew by the next sweep: nothing is dropped silently.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from rheostat.data.errors import BudgetError, StoreError, UpstreamError
from rheostat.data.ledger import Ledger, Price
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.schema import Action, Decision, Outcome, Query, id_at
from rheostat.data.store import OutcomeStore
from rheostat.data.verifiers import Verifier, grade_aside, verifier_of
from rheostat.policies.base import Backend, Meter, Toolbox
from rheostat.policies.needs import check_needs, needs
from rheostat.policies.run import Result, run_action
from rheostat.policies.scorers.referenced import Referenced
from rheostat.training.asked import content
from rheostat.training.collect import Progress

RULE = "sweep"
CUT_SHORT = "upstream_failed"  # a stop reason; at the last try it is taken for a property of the action
CONCURRENCY = 16
PAUSES_S = (0.5, 2.0)  # before the second try and the third
HOPELESS_AFTER = 20  # failures of a model in a row after which its other runs are given up
FLUSH_TIMEOUT_S = 60.0

Servers = Mapping[str, Sequence[Backend]]
OnProgress = Callable[[Progress], None]


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and with what.

    Attributes:
        tasks: queries with references.
        actions: each is run on every task.
        toolbox: what strategies may use.
        seed: of all samples; runs with another seed are other runs.
        verifier: grades the answers; what fits the data set where None.
        prices: by model; a generated token costs a millionth of a dollar where the model is not among them.
    """

    tasks: Sequence[Query]
    actions: Sequence[Action]
    toolbox: Toolbox = Toolbox()
    seed: int = 0
    verifier: Verifier | None = None
    prices: Mapping[str, Price] = {}

    @property
    def cells(self) -> list[Cell]:
        """Every action on every query, query by query, so that a sweep that was stopped is even."""
        return [Cell(query, action) for query in self.tasks for action in self.actions]

    def grader(self, query: Query) -> Verifier:
        """What grades the answers to a query."""
        return self.verifier or verifier_of(query.dataset)

    def cost_usd(self, result: Result) -> float:
        """What a run cost, every call at the price of the model that it went to."""
        return sum(attempt.ledger.cost_usd(self.prices.get(attempt.model, Price())) for attempt in result.attempts)

    def decision_id(self, cell: Cell) -> str:
        """The same for the same run of the same task, so that it is known again; sorts before all served decisions."""
        query, action = cell
        task = "\n".join((query.dataset, query.query_id, *content(query)))
        key = f"{self.seed}\n{task}\n{action}\n{self.grader(query).name}"
        return f"{id_at('d', 0)}{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"


class Cell(NamedTuple):
    """One action on one query."""

    query: Query
    action: Action


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a cell; an answer that could not be graded counts as wrong."""

    dataset: str
    query_id: str
    query_text: str
    level: int
    action: str
    correct: float
    answer: str | None
    ledger: Ledger
    cost_usd: float
    latency_s: float
    stop_reason: str
    estimated: bool


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A cell that is missing, and why."""

    query_id: str
    action: str
    error: str


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep brought: all rows of its cells, how many were there before, and what this run spent in all."""

    rows: tuple[Row, ...]
    skipped: int
    failures: tuple[Failure, ...]
    ledger: Ledger
    elapsed_s: float


async def sweep(
    course: Course,
    servers: Servers,
    store_path: Path,
    *,
    concurrency: int = CONCURRENCY,
    on_progress: OnProgress | None = None,
    pauses_s: Sequence[float] = PAUSES_S,
) -> Swept:
    """Run the cells that the store does not have yet; Ctrl-C closes the calls upstream and keeps what came.

    Args:
        course: what to run.
        servers: the replicas of each model; closed at the end.
        store_path: SQLite file, made when missing.
        concurrency: runs in flight, spread over the replicas.
        on_progress: told after every run.
        pauses_s: seconds before each further try of a run that failed.

    Raises:
        ActionError: an action asks for a model, a scorer or examples that are not here; nothing was run.
        StoreError: outcomes cannot be written; the sweep stops, so that no more of them are paid for.
    """
    try:
        for action in course.actions:
            check_needs(action, course.toolbox, servers, references=True)
        store = OutcomeStore(store_path)
        try:
            todo = [cell for cell in course.cells if store.outcome(course.decision_id(cell)) is None]
            run = _Run(course, store, len(todo), on_progress, pauses_s)
            await _work_off(run, todo, servers, concurrency)
            _confirm(store)
            return Swept(
                rows=rows_of(course, store),
                skipped=len(course.cells) - len(todo),
                failures=tuple(run.failures),
                ledger=run.ledger,
                elapsed_s=run.elapsed_s,
            )
        finally:
            store.close()
    finally:
        for backend in [backend for replicas in servers.values() for backend in replicas]:
            await backend.close()


def rows_of(course: Course, store: OutcomeReader) -> tuple[Row, ...]:
    """What the store has of a course, in the order of its cells."""
    found = [(cell, store.outcome(course.decision_id(cell))) for cell in course.cells]
    return tuple(_row(cell, outcome) for cell, outcome in found if outcome is not None)


async def _work_off(run: _Run, todo: list[Cell], servers: Servers, concurrency: int) -> None:
    """As many workers as runs may be in flight, each with a replica of every model."""
    waiting = iter(todo)

    async def work(place: int) -> None:
        mine = {model: replicas[place % len(replicas)] for model, replicas in servers.items()}
        for cell in waiting:
            await run.cell(cell, mine)

    workers = [asyncio.create_task(work(place)) for place in range(min(concurrency, len(todo)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _confirm(store: OutcomeStore) -> None:
    if not store.flush(FLUSH_TIMEOUT_S) or store.stats().rejected:
        raise StoreError(f"{store.path}: not all outcomes could be written: free some disk and run again")


class _Run:
    """One sweep on its way: what was spent, what failed."""

    def __init__(self, course: Course, store: OutcomeStore, total: int, on_progress: OnProgress | None, pauses_s: Sequence[float]) -> None:
        self.ledger = Ledger()
        self.failures: list[Failure] = []
        self._course, self._store, self._total = course, store, total
        self._on_progress = on_progress
        self._pauses_s = pauses_s
        self._failed_in_a_row: Counter[str] = Counter()
        self._done = 0
        self._started = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    async def cell(self, cell: Cell, backends: Mapping[str, Backend]) -> None:
        """Run a cell, again where it fails for now or is cut short by a failure, and keep what came."""
        for pause_s in (*self._pauses_s, None):
            try:
                result = await self._result(cell, backends)
            except (UpstreamError, BudgetError) as error:
                self._failed_in_a_row[cell.action.model] += 1
                if pause_s is None or not self._is_worth_another(cell, error):
                    self._give_up(cell, error)
                    return
                await asyncio.sleep(pause_s)
                continue
            self._failed_in_a_row[cell.action.model] = 0
            if pause_s is None or result.stop_reason != CUT_SHORT:
                await self._keep(cell, result)
                return
            await asyncio.sleep(pause_s)

    async def _result(self, cell: Cell, backends: Mapping[str, Backend]) -> Result:
        course, (query, action) = self._course, cell
        meter = Meter(action.max_tokens)
        by_reference = "verifier" in needs(action).scorers - set(course.toolbox.scorers)
        try:
            return await run_action(
                action,
                query,
                backends,
                kind=query.kind or "text",
                seed=int(course.decision_id(cell)[-12:], 16) % 2**31,
                meter=meter,
                scorer=Referenced(course.grader(query)) if by_reference else None,
                toolbox=course.toolbox,
            )
        finally:
            self.ledger = self.ledger + meter.ledger

    def _is_worth_another(self, cell: Cell, error: UpstreamError | BudgetError) -> bool:
        hopeless = self._failed_in_a_row[cell.action.model] >= HOPELESS_AFTER
        return isinstance(error, UpstreamError) and error.retryable and not hopeless

    async def _keep(self, cell: Cell, result: Result) -> None:
        for record in await _records(self._course, cell, result):
            if not self._store.put(record) or not self._store.healthy:
                raise StoreError(f"{self._store.path}: outcomes are not being written: free some disk, and run again")
        self._done += 1
        self._report()

    def _give_up(self, cell: Cell, error: Exception) -> None:
        self.failures.append(Failure(query_id=cell.query.query_id, action=str(cell.action), error=str(error)))
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            told = Progress(
                done=self._done, failed=len(self.failures), total=self._total, tokens=self.ledger.generated, elapsed_s=self.elapsed_s
            )
            self._on_progress(told)


async def _records(course: Course, cell: Cell, result: Result) -> tuple[Decision, Outcome]:
    """The run as if it had been decided: every action was taken for certain, so its propensity is 1."""
    query, action = cell
    grader = course.grader(query)
    decision_id = course.decision_id(cell)
    decision = Decision(
        decision_id=decision_id,
        query_id=query.query_id,
        created_s=time.time() - result.latency_s,
        action=str(action),
        propensity=1.0,
        tier=RULE,
        rule=RULE,
        prompt_text=query.text,
    )
    outcome = Outcome(
        decision_id=decision_id,
        finished_s=time.time(),
        status=result.status,
        ledger=result.ledger,
        cost_usd=course.cost_usd(result),
        latency_s=result.latency_s,
        answer=result.answer,
        samples=len(result.evidence.candidates),
        stop_reason=result.stop_reason,
        estimated=any(attempt.estimated for attempt in result.attempts),
        reward=await grade_aside(grader, query, reply=result.text, answer=result.answer),
        reward_source=grader.name,
        attempts=result.attempts,
    )
    return decision, outcome


def _row(cell: Cell, outcome: Outcome) -> Row:
    return Row(
        dataset=cell.query.dataset,
        query_id=cell.query.query_id,
        query_text=cell.query.text,
        level=cell.query.level,
        action=str(cell.action),
        correct=outcome.reward or 0.0,
        answer=outcome.answer,
        ledger=outcome.ledger,
        cost_usd=outcome.cost_usd,
        latency_s=outcome.latency_s,
        stop_reason=outcome.stop_reason,
        estimated=outcome.estimated,
    )
