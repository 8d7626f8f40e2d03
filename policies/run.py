"""One action, run on one query: meter, calls, waves, stop rule, deadline, and the answer that came of it.

Knows strategies and backends by their protocols only. Whatever happens, every call that was sent is in the meter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, nullcontext
from typing import NamedTuple, TypeVar, cast

import msgspec

from rheostat.data.errors import ActionError, BudgetError, UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Action, AnswerKind, Attempt, AttemptKind, OutcomeStatus, Query
from rheostat.policies.base import (
    Backend,
    Booking,
    Candidate,
    Context,
    Evidence,
    GenerateRequest,
    Generation,
    Meter,
    Scorer,
    StopRule,
    Toolbox,
)
from rheostat.policies.catalogue import build
from rheostat.policies.drawing import EARLY_WAVES, may_end_early

AnyBackend = TypeVar("AnyBackend", bound=Backend)
OnEvidence = Callable[[Evidence], Awaitable[None]]

TIMER_SLACK_S = 0.001  # a timer set to the deadline may fire this much before it
DEADLINE_GRACE_S = 0.2  # a backend ends a call at the deadline by itself; this much later it is cut off


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of running an action: the answer, why this one, and everything that was spent on it."""

    text: str
    answer: str | None
    candidate: Candidate
    evidence: Evidence
    ledger: Ledger
    attempts: tuple[Attempt, ...]
    stop_reason: str
    status: OutcomeStatus
    latency_s: float


async def run_action(
    action: Action,
    query: Query,
    backends: Mapping[str, Backend],
    *,
    kind: AnswerKind,
    seed: int,
    rule: StopRule | None = None,
    deadline_s: float | None = None,
    on_evidence: OnEvidence | None = None,
    scorer: Scorer | None = None,
    waves: tuple[int, ...] | None = None,
    meter: Meter | None = None,
    toolbox: Toolbox | None = None,
) -> Result:
    """Run the action's strategy, wave by wave, until a rule, the strategy, the cap or the deadline ends it.

    Args:
        action: model, strategy, shape and cap; the model is a key of `backends`.
        query: what is asked, with the client's own sampling.
        backends: model name -> the server that runs it.
        kind: how answers are read from texts.
        seed: base of the sample seeds; the client's own seed goes before it.
        rule: when to stop; None takes the one spelled in the action, if any.
        deadline_s: seconds from now after which the answer is made from the samples that came.
        on_evidence: awaited after every wave.
        scorer: the verifier of strategies that ask for one.
        waves: sizes of the waves, the last repeating; None is 2, 2, 4 where a rule or scorer may stop early, else one wave.
        meter: where to spend, so that the caller can read the attempts if it cancels; a new one of the cap otherwise.
        toolbox: scorers by name, solved examples and an embedding, for strategies that ask for them.

    Raises:
        ActionError: the strategy, its arguments or the model are unknown.
        UpstreamError: no sample came; `attempts` holds what was booked all the same.
        BudgetError: the meter passed in has no room for a first call.
        asyncio.CancelledError: the caller gave up; all calls are closed and booked by then.
    """
    strategy = build(action)
    meter = meter or Meter(action.max_tokens)
    clock = Clock(deadline_s)
    stop = rule or getattr(strategy, "rule", None)
    context = Context(
        model=action.model,
        call=Caller(backends, meter, clock),
        left_tokens=lambda: meter.left_tokens,
        kind=kind,
        seed=seed,
        waves=_waves(waves, early=stop is not None or scorer is not None or may_end_early(strategy)),
        scorer=scorer,
        toolbox=toolbox or Toolbox(),
    )
    end = await _consume(strategy.run(query, context), _Ends(stop, clock, meter), on_evidence)
    if end.evidence is None:
        raise _without_answer(end, action, meter)
    return result_of(end.evidence, end.reason, meter, clock)


class Clock:
    """Time since the start, and how much is left until the deadline, if there is one."""

    def __init__(self, deadline_s: float | None = None) -> None:
        self._started_s = time.perf_counter()
        self._deadline_s = deadline_s

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started_s

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline, negative once it has passed; None without one."""
        return None if self._deadline_s is None else self._deadline_s - self.spent_s

    @property
    def passed(self) -> bool:
        """Whether the deadline has passed."""
        return self.left_s is not None and self.left_s <= TIMER_SLACK_S


class Caller:
    """The metered call of strategies: reserve the worst case, run, book, give the reservation back."""

    def __init__(self, backends: Mapping[str, Backend], meter: Meter, clock: Clock) -> None:
        self._backends = backends
        self._meter = meter
        self._clock = clock

    async def __call__(self, request: GenerateRequest, kind: AttemptKind = "completion") -> Generation:
        """Run one call; see `base.Call`."""
        backend = backend_of(request.model, self._backends)
        if self._clock.passed:
            raise UpstreamError("the deadline had passed before the call", backend=backend.name)
        reserved = request.n * request.max_tokens
        self._meter.reserve(reserved)
        try:
            generation = await backend.generate(self._timed(request), BookedAs(kind, self._meter))
        finally:
            self._meter.release(reserved)
        if not generation.completions:
            raise UpstreamError(f"{backend.name} answered without a sample", backend=backend.name, retryable=True)
        return generation

    def book(self, attempt: Attempt) -> None:
        """Book a call that was made elsewhere; see `base.Call`."""
        self._meter.book(attempt)

    def _timed(self, request: GenerateRequest) -> GenerateRequest:
        left_s = self._clock.left_s
        if left_s is None:
            return request
        return msgspec.structs.replace(request, timeout_s=left_s if request.timeout_s is None else min(request.timeout_s, left_s))


class BookedAs:
    """Books attempts under the kind the caller had in mind: a backend cannot know a judge's tokens from an answer's."""

    def __init__(self, kind: AttemptKind, book: Booking) -> None:
        self._kind = kind
        self._book = book

    def book(self, attempt: Attempt) -> None:
        """Add one attempt, its completion tokens moved to `verifier` where it was a verifier's."""
        if self._kind == "verifier":
            ledger = msgspec.structs.replace(attempt.ledger, verifier=attempt.ledger.completion, completion=0)
            attempt = msgspec.structs.replace(attempt, kind=self._kind, ledger=ledger)
        self._book.book(attempt)


def backend_of(model: str, backends: Mapping[str, AnyBackend]) -> AnyBackend:
    """The server of a model.

    Raises:
        ActionError: no backend has it.
    """
    if model not in backends:
        raise ActionError(f"no backend serves the model {model!r}: known are {', '.join(sorted(backends)) or 'none'}")
    return backends[model]


class _End(NamedTuple):
    """How the waves ended: the evidence so far, why, and the error that ended them, if one did."""

    evidence: Evidence | None
    reason: str
    error: UpstreamError | BudgetError | None = None


class _Ends:
    """Why a run ends after a wave: all that was planned is there, the rule, the deadline, or what cut it short."""

    def __init__(self, stop: StopRule | None, clock: Clock, meter: Meter) -> None:
        self.clock = clock
        self._stop = stop
        self._meter = meter

    def reason(self, evidence: Evidence) -> str | None:
        """The reason, or None to go on."""
        if evidence.last and evidence.end:
            return evidence.end
        if evidence.last and len(evidence.candidates) >= evidence.planned:
            return "complete"
        if self._stop is not None and (reason := self._stop(evidence)):
            return reason
        if self.clock.passed:
            return "deadline"
        return self._cut_short() if evidence.last else None

    def _cut_short(self) -> str:
        return "budget" if self._meter.left_tokens < 1 else "upstream_failed"


async def _consume(waves: AsyncIterator[Evidence], ends: _Ends, on_evidence: OnEvidence | None) -> _End:
    evidence = None
    left_s = ends.clock.left_s
    guard = None if left_s is None else asyncio.timeout(left_s + DEADLINE_GRACE_S)
    try:
        async with guard or nullcontext(), aclosing(cast(AsyncGenerator[Evidence], waves)):
            async for evidence in waves:
                if on_evidence is not None:
                    await on_evidence(evidence)
                if reason := ends.reason(evidence):
                    return _End(evidence, reason)
        return _End(evidence, "complete")
    except TimeoutError:
        if guard is None or not guard.expired():
            raise
        return _End(evidence, "deadline")
    except UpstreamError as error:
        return _End(evidence, "deadline" if ends.clock.passed else "upstream_failed", error)
    except BudgetError as error:
        return _End(evidence, "budget", error)


def _waves(waves: tuple[int, ...] | None, *, early: bool) -> tuple[int, ...]:
    """The schedule asked for; by default one wave of all samples, unless something may end sampling early."""
    if waves is not None:
        return waves
    return EARLY_WAVES if early else ()


def _without_answer(end: _End, action: Action, meter: Meter) -> UpstreamError | BudgetError:
    if isinstance(end.error, BudgetError):
        return end.error
    cause = end.error or UpstreamError("no sample came before the deadline", backend=action.model)
    what = f"{action} has no answer ({end.reason})"
    return UpstreamError(
        f"{what}: {cause}",
        backend=cause.backend,
        status=cause.status,
        retryable=cause.retryable,
        retry_after_s=cause.retry_after_s,
        attempts=tuple(meter.attempts),
        told=f"{what}: {cause.told}",
    )


def result_of(evidence: Evidence, reason: str, meter: Meter, clock: Clock) -> Result:
    """The result that the evidence at the end stands for."""
    chosen = evidence.choice
    return Result(
        text=chosen.text,
        answer=chosen.answer,
        candidate=chosen,
        evidence=evidence,
        ledger=meter.ledger,
        attempts=tuple(meter.attempts),
        stop_reason=reason,
        status="ok",
        latency_s=clock.spent_s,
    )
