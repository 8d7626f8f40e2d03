"""One decision being carried out: from the record before spending to the outcome after, whatever happens between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType

import msgspec

from rheostat.data.errors import RheostatError
from rheostat.data.ledger import Ledger, Price
from rheostat.data.schema import Action, Decision, Outcome, OutcomeStatus, Query
from rheostat.data.verifiers import VERIFIERS, grade
from rheostat.policies.base import Candidate, Meter
from rheostat.router.budgets import NO_BUDGETS, Budgets
from rheostat.router.guidance import Guidance
from rheostat.serving.metrics import Metrics
from rheostat.serving.path import Step
from rheostat.serving.recorder import Recorder

# Scorers that cost microseconds: the others would hold up the loop.
LIVE_VERIFIERS = ("exact", "numeric", "choice", "yesno")


class Job:
    """A decision, its meter, and what is known of its end so far.

    Attributes:
        action: being run, and in the end the one that gave the answer.
        guidance: what the router knows beyond the decision, if anything.
        path: the actions run so far, where the decision is for several, or a check asked for another one.
        verified: whether the answer passed its check; None where it had none, or it could not be said.
        call_id: the engine's name for the call whose chunks the client was sent, if one's were.
    """

    def __init__(
        self,
        decision: Decision,
        query: Query,
        prices: Mapping[str, Price],
        *,
        verifier: str | None = None,
        guidance: Guidance | None = None,
    ) -> None:
        self.decision = decision
        self.query = query
        self.action = Action.parse(decision.action)
        self.meter = Meter(self.action.max_tokens)
        self.status: OutcomeStatus = "ok"
        self.answer: str | None = None
        self.chosen: Candidate | None = None
        self.samples = 0
        self.agreement: float | None = None
        self.stop_reason = ""
        self.error: str | None = None
        self.path: list[Step] = []
        self.guidance = guidance
        self.verified: bool | None = None
        self.call_id: str | None = None
        self._prices = prices
        self._verifier = verifier or "exact"
        self._started = time.monotonic()

    @property
    def ledger(self) -> Ledger:
        """What was booked so far."""
        return self.meter.ledger

    @property
    def cost_usd(self) -> float:
        """The price of what was booked so far, each call at its own model's."""
        own = self._prices[self.action.model]
        return sum([attempt.ledger.cost_usd(self._prices.get(attempt.model, own)) for attempt in self.meter.attempts], 0.0)

    def limit(self, most_tokens: int | None) -> None:
        """Spend no more than that on everything, whatever the action's own cap is; None is no limit."""
        if most_tokens is not None:
            self.meter.cap_tokens = min(self.meter.cap_tokens, most_tokens)

    def note(self, p_correct: float) -> None:
        """How likely the leading answer is right after the newest step."""
        self.path[-1] = msgspec.structs.replace(self.path[-1], p_correct=p_correct)

    def outcome(self) -> Outcome:
        """The record of how it ended."""
        reward = self._reward()
        return Outcome(
            decision_id=self.decision.decision_id,
            finished_s=time.time(),
            status=self.status,
            ledger=self.ledger,
            cost_usd=self.cost_usd,
            latency_s=time.monotonic() - self._started,
            answer=self.answer,
            samples=self.samples,
            agreement=self.agreement,
            stop_reason=self.stop_reason,
            estimated=any(attempt.estimated for attempt in self.meter.attempts),
            reward=reward,
            reward_source=None if reward is None else self._verifier,
            verified=self.verified,
            attempts=tuple(self.meter.attempts),
            error=self.error,
        )

    def _reward(self) -> float | None:
        """Scored against the reference, where the request carried one and was answered."""
        if self.query.reference is None or self.status != "ok":
            return None
        reply = self.chosen.text if self.chosen is not None else ""
        return grade(VERIFIERS[self._verifier], self.query, reply=reply, answer=self.answer)


class Jobs:
    """Opens jobs and closes each exactly once, in the store and in the metrics.

    Attributes:
        prices: by model, also of those that have left the configuration; others may join at any time.
    """

    def __init__(self, *, recorder: Recorder, metrics: Metrics, prices: Mapping[str, Price], budgets: Budgets = NO_BUDGETS) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self.prices = prices
        self._budgets = budgets
        self._n_open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    def open(self, decision: Decision, query: Query, *, verifier: str | None = None, guidance: Guidance | None = None) -> Opened:
        """Record the decision, then carry it out inside; the outcome is recorded on every way out."""
        job = Job(decision, query, self.prices, verifier=verifier, guidance=guidance)
        self._recorder.decided(decision, query)
        self._metrics.decided(decision)
        self._n_open += 1
        self._none_open.clear()
        return Opened(job, self)

    def close(self, job: Job) -> None:
        """Record how a job ended."""
        self._n_open -= 1
        if not self._n_open:
            self._none_open.set()
        outcome = job.outcome()
        self._recorder.finished(outcome, job.decision.tenant)
        self._metrics.finished(outcome)
        self._budgets.spent(job.decision.tier, outcome.cost_usd)

    async def ended(self) -> None:
        """Wait until no job is open."""
        await self._none_open.wait()


class Opened:
    """A job being carried out: what leaves its block tells how it ended."""

    def __init__(self, job: Job, jobs: Jobs) -> None:
        self._job = job
        self._jobs = jobs

    def __enter__(self) -> Job:
        return self._job

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._failed(error)
        self._jobs.close(self._job)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._job.status = "client_cancelled"
        else:
            self._job.status = "failed"
            self._job.error = str(error) if isinstance(error, RheostatError) else type(error).__name__
