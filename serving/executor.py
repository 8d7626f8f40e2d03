"""Carries decisions out: decide, record, run, record. Knows strategies and pools; knows no HTTP beyond a byte sink.

A decision is written before anything is spent on it. If its model turns out to be unreachable before the client was
sent a byte, another decision is made without that model; both are recorded, and all that was spent is on the bill.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger, Price
from rheostat.data.schema import Action, Decision, message_text
from rheostat.policies.base import Toolbox
from rheostat.router.guidance import Guidance
from rheostat.serving import answer
from rheostat.serving.admitted import Admitted, admit
from rheostat.serving.auth import Principal
from rheostat.serving.config import Config
from rheostat.serving.congestion import Congestion
from rheostat.serving.deadline import GATEWAY_TIMEOUT
from rheostat.serving.decider import Decider
from rheostat.serving.decisions import NONE_FAILED, Decisions
from rheostat.serving.job import Job, Jobs
from rheostat.serving.limits import Hold, most_tokens
from rheostat.serving.pool import Pools
from rheostat.serving.sessions import Sessions
from rheostat.serving.shapes import ChatCompletion
from rheostat.serving.stream import Sink
from rheostat.serving.streamer import Streamer
from rheostat.serving.terms import Terms
from rheostat.serving.upstream import is_clients_fault
from rheostat.serving.verification import Verification
from rheostat.serving.wire import Chat

UNPRICED = Price()
NOT_SHOWN = ("embedding", "prompt_text")  # fields of a decision that say nothing to people

CarryOut = Callable[[Job, Terms, Ledger], Awaitable[None]]


class Executor:
    """Serves admitted requests on the pools."""

    def __init__(
        self,
        config: Config,
        *,
        decider: Decider,
        pools: Pools,
        jobs: Jobs,
        congestion: Congestion,
        sessions: Sessions,
        toolbox: Toolbox,
        verification: Verification,
    ) -> None:
        self._config = config
        self._pools = pools
        self._jobs = jobs
        self._toolbox = toolbox
        self._decisions = Decisions(config, decider=decider, pools=pools, congestion=congestion, sessions=sessions)
        self._verification = verification
        self._streamer = Streamer(verification, pools, toolbox)

    def apply(self, config: Config) -> None:
        """Work under a changed configuration from the next request on."""
        self._config = config
        self._decisions.apply(config)

    def admit(self, chat: Chat, principal: Principal) -> Admitted:
        """The request as one that may be served here and now; errors as `admitted.admit`."""
        return admit(chat, principal, config=self._config, pools=self._pools, toolbox=self._toolbox)

    async def complete(self, admitted: Admitted) -> ChatCompletion:
        """Serve a request whole. Returns the `chat.completion`.

        Raises:
            UpstreamError: no backend gave an answer.
            InfeasibleError: the request is strict and nothing meets it.
        """
        answers: list[ChatCompletion] = []

        async def carry_out(job: Job, terms: Terms, before: Ledger) -> None:
            candidates = await self._verification.run(job, admitted.chat, terms)
            answers.append(answer.completion(job, candidates, before + job.ledger))

        await self._with_reroute(admitted, carry_out, started=lambda: False)
        return answers[-1]

    async def stream(self, admitted: Admitted, sink: Sink, on_decision: Callable[[str], None]) -> None:
        """Serve a request as a stream of SSE events into `sink`; errors as `complete`, also after the first byte."""

        async def carry_out(job: Job, terms: Terms, before: Ledger) -> None:
            on_decision(job.decision.decision_id)
            await self._streamer.stream(job, admitted.chat, terms, sink)
            await sink.write(answer.last_chunk(job, before + job.ledger) + answer.DONE)

        await self._with_reroute(admitted, carry_out, started=lambda: sink.started)

    async def dry_run(self, admitted: Admitted) -> dict[str, Any]:
        """The decision that would be made, and why; nothing is spent and nothing is recorded."""
        decision = await self._decisions.decide(admitted)
        shown = {name: value for name, value in msgspec.to_builtins(decision).items() if name not in NOT_SHOWN}
        return {"decision": shown, "explanation": await self._decisions.explain(admitted)}

    async def _with_reroute(self, admitted: Admitted, carry_out: CarryOut, *, started: Callable[[], bool]) -> None:
        chat, failed, spent = admitted.chat, NONE_FAILED, Ledger()
        while True:
            left = admitted.after(spent)
            decision = await self._decisions.decide(left, failed)
            job: Job | None = None
            try:
                guidance = self._decisions.follow(left, decision)
                with (
                    self._hold(left, decision, guidance) as hold,
                    self._jobs.open(decision, chat.query, verifier=chat.verifier, guidance=guidance) as job,
                ):
                    job.limit(left.room)
                    try:
                        await carry_out(job, left.terms, spent)
                    finally:
                        hold.spent(tokens=job.ledger.generated, usd=job.cost_usd)
                self._decisions.keep(admitted, job)
                return
            except UpstreamError as error:
                if job is None:
                    raise
                failed |= {job.action.model}
                spent = spent + job.ledger
                if started() or not _is_models_fault(error) or not self._may_go_on(admitted, failed, spent):
                    raise

    def _may_go_on(self, admitted: Admitted, failed: frozenset[str], spent: Ledger) -> bool:
        """Whether another model is there, and tokens for as many answers as are wanted."""
        room = admitted.after(spent).room
        return self._decisions.has_another(admitted, failed) and (room is None or room >= admitted.chat.n)

    def _hold(self, admitted: Admitted, decision: Decision, guidance: Guidance | None) -> Hold:
        """What the decision may spend at worst, set aside from the key's allowance; to be done before anything is recorded."""
        action = Action.parse(decision.action)
        caps = [(action.model, _cap_tokens(action, guidance, admitted.room))]
        if admitted.terms.high_stakes:
            caps += self._verification.caps(decision, admitted.chat)
        prompt_tokens = most_tokens(map(message_text, admitted.chat.query.messages))
        usd = 0.0
        for model, cap_tokens in caps:
            usd += Ledger(prompt=prompt_tokens, completion=cap_tokens).cost_usd(self._jobs.prices.get(model, UNPRICED))
        tokens = sum([cap_tokens for _, cap_tokens in caps])
        return admitted.principal.allowance.hold(tokens=tokens if admitted.room is None else min(tokens, admitted.room), usd=usd)


def _cap_tokens(action: Action, guidance: Guidance | None, room: int | None) -> int:
    """What may be generated: the cap of the course, where several actions may be run, or else of the action; at most `room`."""
    own = guidance.course.cap_tokens if guidance and guidance.course else action.max_tokens
    return own if room is None else min(own, room)


def _is_models_fault(error: UpstreamError) -> bool:
    """Whether another model might do better: not with a request that is refused, nor with no time left."""
    return not is_clients_fault(error) and error.status != GATEWAY_TIMEOUT
