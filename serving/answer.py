"""Answers in OpenAI's shapes: the whole completion, the chunks of a stream, and the `rheostat` block of both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from rheostat.data.ledger import Ledger
from rheostat.policies.base import Candidate
from rheostat.serving.job import Job
from rheostat.serving.shapes import (
    Alternative,
    ChatCompletion,
    Choice,
    ChoiceLogprobs,
    CompletionDetails,
    Message,
    PromptDetails,
    Told,
    Usage,
)

DONE = b"data: [DONE]\n\n"


def completion(job: Job, candidates: Sequence[Candidate], spent: Ledger) -> ChatCompletion:
    """A `chat.completion` with one choice per candidate; `spent` is all of the request, failed decisions included."""
    return ChatCompletion(
        id=completion_id(job),
        created=int(time.time()),
        model=job.action.model,
        choices=[_choice(job, index, found) for index, found in enumerate(candidates)],
        usage=usage(spent),
        rheostat=block(job),
    )


def delta(
    job: Job, delta: dict[str, Any], *, index: int = 0, logprobs: ChoiceLogprobs | None = None, finish_reason: str | None = None
) -> bytes:
    """One `chat.completion.chunk` of one choice as an SSE event."""
    return event(_chunk(job, [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}]))


def answer_deltas(job: Job, candidates: Sequence[Candidate]) -> bytes:
    """Finished answers, one choice each, as the chunks that a stream of them would have had."""
    return b"".join(_deltas(job, index, each) for index, each in enumerate(candidates))


def last_chunk(job: Job, spent: Ledger) -> bytes:
    """The chunk without choices that carries usage and the `rheostat` block."""
    return event({**_chunk(job, []), "usage": usage(spent), "rheostat": block(job)})


def event(value: Any) -> bytes:
    """A value as one SSE data event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def comment(value: dict[str, Any]) -> bytes:
    """A value as an SSE comment, which every client skips."""
    return b": rheostat " + msgspec.json.encode(value) + b"\n\n"


def completion_id(job: Job) -> str:
    """The id of the completion: the engine's where its own chunks went out under it, or else from the decision's."""
    return job.call_id or f"chatcmpl-{job.decision.decision_id}"


def usage(ledger: Ledger) -> Usage:
    """A ledger as OpenAI's usage; wasted and verifier tokens are completion tokens too: somebody paid for them."""
    return Usage(
        prompt_tokens=ledger.prompt,
        completion_tokens=ledger.generated,
        total_tokens=ledger.prompt + ledger.generated,
        prompt_tokens_details=PromptDetails(cached_tokens=ledger.cached_prompt),
        completion_tokens_details=CompletionDetails(reasoning_tokens=ledger.reasoning),
    )


def block(job: Job) -> Told:
    """The `rheostat` block: what was decided, what it cost, and how sure it was."""
    decision = job.decision
    return Told(
        decision_id=decision.decision_id,
        action=decision.action,
        tier=decision.tier,
        rule=decision.rule,
        target=decision.target_accuracy,
        p_correct=decision.p_correct,
        p_interval=decision.p_interval,
        feasible=decision.feasible,
        guarantee=decision.guarantee,
        explored=decision.explored,
        cost_usd=job.cost_usd,
        ledger=job.ledger,
        samples=job.samples,
        agreement=job.agreement,
        stop_reason=job.stop_reason,
        verified=job.verified,
        path=job.path,
        degraded=decision.degraded,
        bundle=decision.bundle,
        alternatives={
            action: Alternative(p_correct=p_correct, cost_usd=cost_usd) for action, (p_correct, cost_usd) in decision.alternatives.items()
        },
    )


def _deltas(job: Job, index: int, candidate: Candidate) -> bytes:
    said: dict[str, Any] = {"role": "assistant", "content": candidate.text}
    if candidate.tool_calls:
        said["tool_calls"] = [{"index": at, **call} for at, call in enumerate(candidate.tool_calls)]
    first = delta(job, said, index=index, logprobs=_logprobs(job, candidate))
    return first + delta(job, {}, index=index, finish_reason=_finish(candidate))


def _choice(job: Job, index: int, found: Candidate) -> Choice:
    return Choice(index=index, message=_message(found), logprobs=_logprobs(job, found), finish_reason=_finish(found))


def _logprobs(job: Job, found: Candidate) -> ChoiceLogprobs | None:
    """Only where the client asked: strategies ask for them too, to weigh samples."""
    if not job.query.sampling.extra.get("logprobs"):
        return None
    return ChoiceLogprobs(content=list(found.logprobs))


def _message(candidate: Candidate) -> Message:
    calls = list(candidate.tool_calls)
    return Message(content=candidate.text or (None if calls else ""), tool_calls=calls or UNSET)


def _finish(candidate: Candidate) -> str:
    """Clients ask for the calls only where the reason says that there are some."""
    return "tool_calls" if candidate.tool_calls and candidate.finish_reason == "stop" else candidate.finish_reason


def _chunk(job: Job, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": completion_id(job),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": job.action.model,
        "choices": choices,
    }
