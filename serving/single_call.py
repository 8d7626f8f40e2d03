"""Jobs of one upstream call: the request they send, and what is known at their end. Sends nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Never, cast

from rheostat.data.schema import Attempt, AttemptKind
from rheostat.policies.base import Candidate, Completion, Context, GenerateRequest, Toolbox
from rheostat.policies.catalogue import build, is_single_call
from rheostat.policies.direct import SingleCall
from rheostat.policies.evidence import candidate, count_votes
from rheostat.router.ruling import SEQUENTIAL
from rheostat.serving.job import Job
from rheostat.serving.metrics import PASSTHROUGH


def is_passthrough(job: Job) -> bool:
    """Whether the client's own request goes to the model."""
    return job.action.strategy == PASSTHROUGH


def is_one_call(job: Job) -> bool:
    """Whether the bytes of one upstream call are the whole answer, so that they can be sent on as they come."""
    return is_passthrough(job) or (is_single_call(job.action) and job.decision.rule != SEQUENTIAL)


def passthrough_request(job: Job, n: int) -> GenerateRequest:
    """What the client asked, word for word, with the engine's own defaults for what it left open; `n` answers."""
    sampling = job.query.sampling
    return GenerateRequest(
        model=job.action.model,
        messages=job.query.messages,
        max_tokens=min(job.action.max_tokens, job.meter.left_tokens) // n,
        n=n,
        temperature=1.0 if sampling.temperature is None else sampling.temperature,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        seed=sampling.seed,
        stop=sampling.stop,
        extra=sampling.extra,
    )


def strategy_request(job: Job, toolbox: Toolbox, *, seed: int) -> GenerateRequest:
    """The one request that the job's strategy would make."""
    strategy = cast(SingleCall, build(job.action))
    context = Context(
        model=job.action.model,
        call=_NoCall(),
        left_tokens=lambda: job.meter.left_tokens,
        kind=job.query.kind or "text",
        seed=seed,
        toolbox=toolbox,
    )
    return strategy.request(job.query, context)


def note_samples(job: Job, completions: Sequence[Completion]) -> tuple[Candidate, ...]:
    """Note in the job what its call gave, and return it as candidates; the first one is the answer."""
    kind, asked = job.query.kind or "text", job.query.sampling.extra
    found = tuple(candidate(each, index=each.index, model=job.action.model, kind=kind, asked=asked) for each in completions)
    job.samples, job.agreement = len(found), agreement(found)
    if found:
        job.chosen, job.answer, job.stop_reason = found[0], found[0].answer, found[0].finish_reason
    return found


def agreement(found: Sequence[Candidate]) -> float | None:
    """The leader's share of the samples, in (0, 1]; one sample agrees with nobody."""
    return count_votes(found).agreement if len(found) > 1 else None


class _NoCall:
    """A request that is streamed is sent by the streamer, not by its strategy."""

    async def __call__(self, request: GenerateRequest, kind: AttemptKind = "completion") -> Never:
        raise NotImplementedError(f"a streamed request of {request.model} makes no {kind} call of its own")

    def book(self, attempt: Attempt) -> Never:
        raise NotImplementedError(f"a streamed request makes no {attempt.kind} call of its own")
