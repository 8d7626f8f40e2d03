"""Ends a job at its deadline, and says so in one way wherever the deadline was found to have passed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from rheostat.data.errors import UpstreamError
from rheostat.serving.job import Job

GATEWAY_TIMEOUT = 504
T = TypeVar("T")
# A loop that is behind sets its timers from a time that has passed, so they fire this much early.
TIMER_SLACK_S = 0.05


async def by_deadline(deadline_s: float | None, job: Job, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled after so many seconds; None never does.

    Raises:
        UpstreamError: status 504, the time is over.
    """
    if deadline_s is None:
        return await work
    guard = asyncio.timeout(deadline_s)
    try:
        async with guard:
            return await work
    except TimeoutError as error:
        if not guard.expired():
            raise
        raise too_late(job) from error


def has_passed(deadline_s: float | None, started_s: float) -> bool:
    """Whether so many seconds have gone by since `started_s` of the monotonic clock, give or take the slack of timers."""
    return deadline_s is not None and time.monotonic() - started_s >= deadline_s - TIMER_SLACK_S


def too_late(job: Job) -> UpstreamError:
    """The error of a job without an answer at its deadline."""
    return UpstreamError(f"{job.decision.action} had no answer before the deadline", backend=job.action.model, status=GATEWAY_TIMEOUT)
