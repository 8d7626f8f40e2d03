"""A decision carried out: its action, or several actions, each chosen in the light of the answers before it.

Whatever is run is metered twice: under its own cap, and under that of the whole request. An action that fails after
another has answered costs its tokens, not the answer. Knows neither how an action is run nor what is streamed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Protocol

import msgspec

from rheostat.data.errors import BudgetError, UpstreamError
from rheostat.data.schema import Action, Attempt
from rheostat.policies.base import Meter, StopRule
from rheostat.policies.learned_stop import PriorRule, informed
from rheostat.policies.run import Result
from rheostat.policies.stopping import parse_rule
from rheostat.router.courses import Course, Left
from rheostat.router.guidance import Guidance
from rheostat.serving.job import Job
from rheostat.serving.path import Step


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What all steps together may spend; None is no limit."""

    tokens: int | None = None
    cost_usd: float | None = None
    deadline_s: float | None = None


class Run(Protocol):
    """Runs one action on the job's query."""

    def __call__(self, action: Action, *, meter: Meter, rule: StopRule | None, deadline_s: float | None) -> Awaitable[Result]:
        """What came of it; raises as `policies.run.run_action`."""
        ...


class Share(Meter):
    """A part of another meter: a cap of its own, and everything booked in both."""

    def __init__(self, whole: Meter, cap_tokens: int) -> None:
        super().__init__(min(cap_tokens, whole.left_tokens))
        self._whole = whole

    def reserve(self, n_tokens: int) -> None:
        """Set tokens aside in both."""
        super().reserve(n_tokens)
        self._whole.reserve(n_tokens)

    def release(self, n_tokens: int) -> None:
        """Give a reservation back to both."""
        super().release(n_tokens)
        self._whole.release(n_tokens)

    def book(self, attempt: Attempt) -> None:
        """Add what a call really spent to both."""
        super().book(attempt)
        self._whole.book(attempt)


async def carry_out(job: Job, limits: Limits, run: Run) -> Result:
    """Run the job's action, with its learned stop rule if there is one, and whatever its course asks for after it.

    Args:
        job: whose meter and path are kept; its action ends as the one that gave the answer. Without guidance the
            decision's action is run as it is spelled.
        limits: of all steps together.
        run: runs one action.

    Raises:
        UpstreamError: the first action failed.
        BudgetError: it does not fit under the cap.
    """
    guidance = job.guidance
    if guidance is None or guidance.course is None:
        return await run(job.action, meter=job.meter, rule=known_rule(job.action, guidance), deadline_s=limits.deadline_s)
    course = guidance.course
    job.meter.cap_tokens = course.cap_tokens if limits.tokens is None else min(course.cap_tokens, limits.tokens)
    return await _Walk(job, guidance, course, limits, run).to_the_end()


def known_rule(action: Action, guidance: Guidance | None) -> StopRule | None:
    """The action's stop rule with what the bundle knows about it; None leaves it as it is spelled."""
    known = guidance.stop(action) if guidance else None
    if known is None:
        return None
    return informed(parse_rule(str(action.arguments["stop"])), PriorRule(known.policy, known.prior, known.score))


class _Walk:
    """One query on its course: what was run, and what is left."""

    def __init__(self, job: Job, guidance: Guidance, course: Course, limits: Limits, run: Run) -> None:
        self._job, self._guidance, self._course, self._limits, self._run = job, guidance, course, limits, run
        self._started = time.monotonic()
        self._results: dict[int, Result] = {}

    async def to_the_end(self) -> Result:
        position: int | None = self._guidance.actions.index(self._job.action)
        while position is not None:
            await self._step(position)
            turn = self._course.turn(self._left)
            self._job.note(turn.p_correct)
            position = turn.action
        leader = turn.leader if turn.leader is not None else next(iter(self._results))
        self._job.action = self._guidance.actions[leader]
        return self._results[leader]

    async def _step(self, position: int) -> None:
        action = self._guidance.actions[position]
        self._job.action = action
        share = Share(self._job.meter, action.max_tokens)
        try:
            result = await self._run(action, meter=share, rule=known_rule(action, self._guidance), deadline_s=self._left.seconds)
        except (UpstreamError, BudgetError):
            if not self._results:
                raise
            self._course.bar(position)
            self._job.path.append(Step(action=str(action), tokens=share.ledger.generated, answer=None, failed=True))
            return
        self._results[position] = result
        self._course.saw(position, result.answer)
        self._job.path.append(Step(action=str(action), tokens=share.ledger.generated, answer=result.answer))

    @property
    def _left(self) -> Left:
        limits, job = self._limits, self._job
        return Left(
            tokens=job.meter.left_tokens,
            cost_usd=None if limits.cost_usd is None else limits.cost_usd - job.cost_usd,
            seconds=None if limits.deadline_s is None else limits.deadline_s - (time.monotonic() - self._started),
        )
