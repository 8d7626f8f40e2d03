"""Runs a job to its end on the pools: one plain call, or the action with all its steps. Knows nothing of streams."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from rheostat.data.errors import UpstreamError
from rheostat.data.randomness import random_hex
from rheostat.data.schema import Action
from rheostat.policies.base import Candidate, Evidence, Meter, StopRule, Toolbox
from rheostat.policies.run import Result, run_action
from rheostat.serving.deadline import by_deadline, has_passed, too_late
from rheostat.serving.job import Job
from rheostat.serving.pool import Pools
from rheostat.serving.single_call import agreement, note_samples, passthrough_request
from rheostat.serving.steps import Run, carry_out
from rheostat.serving.terms import Terms
from rheostat.serving.wire import Chat

# Progress that a client asked to see is worth the latency of several waves.
PROGRESS_WAVES = (2, 2, 4)

OnEvidence = Callable[[Evidence], Awaitable[None]]


class Runner:
    """Runs jobs.

    Args:
        pools: the model servers.
        toolbox: what strategies may use besides them.
    """

    def __init__(self, pools: Pools, toolbox: Toolbox) -> None:
        self._pools = pools
        self._toolbox = toolbox

    async def run_passthrough(self, job: Job, chat: Chat, terms: Terms) -> tuple[Candidate, ...]:
        """As many answers as the client wants from its one plain call.

        Raises:
            UpstreamError: no backend gave an answer, or not in time.
        """
        request = passthrough_request(job, chat.n)
        generation = await by_deadline(terms.deadline_s, job, self._pools[job.action.model].generate(request, job.meter))
        return note_samples(job, generation.completions)

    async def run_action(self, job: Job, chat: Chat, terms: Terms, on_evidence: OnEvidence | None = None) -> Result:
        """Carry out the job's action and what its course asks for after it; the job knows its end then.

        Args:
            job: its meter is spent from.
            chat: what was asked.
            terms: bound all steps together.
            on_evidence: told what is known after every wave.

        Raises:
            UpstreamError: the first action failed, or had no answer in time.
        """
        limits, started_s = terms.limits, time.monotonic()
        try:
            result = await carry_out(job, limits, self._run_one(job, chat, on_evidence))
        except UpstreamError as error:
            if has_passed(limits.deadline_s, started_s):
                raise too_late(job) from error
            raise
        note_result(job, result)
        return result

    def _run_one(self, job: Job, chat: Chat, on_evidence: OnEvidence | None) -> Run:
        async def run(action: Action, *, meter: Meter, rule: StopRule | None, deadline_s: float | None) -> Result:
            return await run_action(
                action,
                job.query,
                self._pools,
                kind=job.query.kind or "text",
                seed=fresh_seed(),
                rule=rule,
                deadline_s=deadline_s,
                on_evidence=on_evidence,
                waves=PROGRESS_WAVES if chat.progress else None,
                meter=meter,
                toolbox=self._toolbox,
            )

        return run


def note_result(job: Job, result: Result) -> None:
    """Let the job know its answer."""
    job.answer, job.stop_reason, job.status = result.answer, result.stop_reason, result.status
    job.chosen = result.candidate
    job.samples = len(result.evidence.candidates)
    job.agreement = agreement(result.evidence.candidates)


def fresh_seed() -> int:
    """A seed of its own for every run of a strategy: the same question asked twice is drawn twice."""
    return int(random_hex(), 16) % 2**31
