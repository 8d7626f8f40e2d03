"""Streams a job's answer: one call's bytes as they come, or progress while several calls run and the chosen answer then."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import Evidence, GenerateRequest, Said, Toolbox
from rheostat.policies.evidence import count_votes
from rheostat.serving import answer
from rheostat.serving.deadline import by_deadline
from rheostat.serving.job import Job
from rheostat.serving.pool import Pools
from rheostat.serving.runner import fresh_seed
from rheostat.serving.single_call import is_one_call, is_passthrough, note_samples, passthrough_request, strategy_request
from rheostat.serving.stream import Passage, Sink, without_usage
from rheostat.serving.terms import Terms
from rheostat.serving.verification import Verification
from rheostat.serving.wire import Chat


class Streamer:
    """Streams jobs into byte sinks; what follows the answer (usage, the end mark) is left to the caller.

    Args:
        verification: runs what takes several calls, and what is checked before it goes out.
        pools: the model servers.
        toolbox: what strategies may use besides them.
    """

    def __init__(self, verification: Verification, pools: Pools, toolbox: Toolbox) -> None:
        self._verification = verification
        self._pools = pools
        self._toolbox = toolbox

    async def stream(self, job: Job, chat: Chat, terms: Terms, sink: Sink) -> None:
        """Write the answer.

        Raises:
            UpstreamError: no backend gave an answer, not in time, or not to its end.
        """
        if is_one_call(job) and not terms.high_stakes:
            await self._pass_through(job, chat, terms, sink)
        else:
            await self._think(job, chat, terms, sink)

    async def _pass_through(self, job: Job, chat: Chat, terms: Terms, sink: Sink) -> None:
        request = self._request(job, chat)
        said = Said()
        chunks = self._pools[request.model].stream(request, job.meter, said=said)
        await by_deadline(terms.deadline_s, job, _forward(chunks, sink, model=job.action.model))
        note_samples(job, said.completions)
        job.call_id = said.call_id

    def _request(self, job: Job, chat: Chat) -> GenerateRequest:
        if is_passthrough(job):
            return passthrough_request(job, chat.n)
        return strategy_request(job, self._toolbox, seed=fresh_seed())

    async def _think(self, job: Job, chat: Chat, terms: Terms, sink: Sink) -> None:
        await sink.write(answer.comment({"decision_id": job.decision.decision_id, "action": job.decision.action}))

        async def progress(evidence: Evidence) -> None:
            await sink.write(_progress(job, evidence, reasoning=chat.progress))

        candidates = await self._verification.run(job, chat, terms, progress)
        await sink.write(answer.answer_deltas(job, candidates))


async def _forward(stream: AsyncIterator[bytes], sink: Sink, *, model: str) -> None:
    passage = Passage()
    async with aclosing(cast(AsyncGenerator[bytes, None], stream)) as chunks:
        async for chunk in chunks:
            if data := without_usage(passage.feed(chunk)):
                await sink.write(data)
    if not passage.done:
        raise UpstreamError(f"the stream of {model!r} broke off before its end", backend=model, status=502)


def _progress(job: Job, evidence: Evidence, *, reasoning: bool) -> bytes:
    """A comment for those who read them, and, where asked for, a line of reasoning that clients show."""
    votes = count_votes(evidence.candidates)
    told = answer.comment({"samples": votes.drawn, "planned": evidence.planned, "leader": votes.leader, "agreement": votes.agreement})
    if not reasoning:
        return told
    line = f"{votes.drawn} of at most {evidence.planned} samples; {votes.leader!r} leads with {votes.v1}.\n"
    return told + answer.delta(job, {"reasoning_content": line})
