"""Carries decisions out: decide, record, run, record. Knows strategies and pools; knows no HTTP beyond a byte sink.

A decision is written before anything is spent on it. If its model turns out to be unreachable before the client was
sent a byte, another decision is made without that model; both are recorded, and all that was spent is on the bill.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Never, cast

import msgspec

from rheostat.data.errors import ActionError, RequestError, UpstreamError
from rheostat.data.ledger import Ledger, Price
from rheostat.data.schema import Action, Attempt, AttemptKind, Constraints, Decision, Query, message_text, new_id
from rheostat.policies.base import Candidate, Completion, Context, Evidence, GenerateRequest, Meter, StopRule, Toolbox
from rheostat.policies.catalogue import build, is_single_call
from rheostat.policies.direct import SingleCall
from rheostat.policies.evidence import candidate, count_votes
from rheostat.policies.needs import check_needs
from rheostat.policies.reply import Reply
from rheostat.policies.run import Result, run_action
from rheostat.router.ask import Ask, merged
from rheostat.router.guidance import Guidance
from rheostat.router.ruling import SEQUENTIAL
from rheostat.serving import answer
from rheostat.serving.auth import Principal
from rheostat.serving.config import Config, TierConfig
from rheostat.serving.congestion import Congestion
from rheostat.serving.context import waited_s
from rheostat.serving.decider import Decider
from rheostat.serving.job import LIVE_VERIFIERS, Job, Jobs
from rheostat.serving.metrics import PASSTHROUGH
from rheostat.serving.pool import Pools
from rheostat.serving.sessions import Sessions
from rheostat.serving.shapes import ChatCompletion
from rheostat.serving.steps import Limits, carry_out
from rheostat.serving.stream import Passage, Sink
from rheostat.serving.targets import Target, resolve
from rheostat.serving.upstream import is_clients_fault
from rheostat.serving.wire import Chat

REROUTED = "upstream_failed"
SESSION = "session"  # the rule of a decision that a conversation kept
CHARACTERS_A_TOKEN = 3  # fewer than in any natural language that tokenizers are made for: errs on the dear side
GATEWAY_TIMEOUT = 504
# A loop that is behind sets its timers from a time that has passed, so they fire this much early.
TIMER_SLACK_S = 0.05
# Progress that a client asked to see is worth the latency of several waves.
PROGRESS_WAVES = (2, 2, 4)

CarryOut = Callable[[Job, Ledger], Awaitable[None]]
OnEvidence = Callable[[Evidence], Awaitable[None]]


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be served: what it asks, of what, and for whom."""

    chat: Chat
    target: Target
    principal: Principal

    @property
    def tenant(self) -> str:
        """Whose decision it will be."""
        return self.principal.tenant


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
    ) -> None:
        self._config = config
        self._decider = decider
        self._pools = pools
        self._jobs = jobs
        self._congestion = congestion
        self._sessions = sessions
        self._toolbox = toolbox

    def apply(self, config: Config) -> None:
        """Work under a changed configuration from the next request on."""
        self._config = config

    def admit(self, chat: Chat, principal: Principal) -> Admitted:
        """Check what the wire could not: the names of models, actions and verifiers, and what the key may ask for.

        Raises:
            RequestError: names the field.
        """
        target = resolve(chat.model, self._config)
        principal.check(target, forced=chat.action is not None)
        if chat.verifier is not None and chat.verifier not in LIVE_VERIFIERS:
            raise RequestError(
                f"rheostat.verifier: {chat.verifier[:60]!r} is not known: known are {', '.join(LIVE_VERIFIERS)}", param="rheostat.verifier"
            )
        if chat.action is not None:
            self._check_forced(chat.action)
        return Admitted(chat=chat, target=target, principal=principal)

    async def complete(self, admitted: Admitted) -> ChatCompletion:
        """Serve a request whole. Returns the `chat.completion`.

        Raises:
            UpstreamError: no backend gave an answer.
            InfeasibleError: the request is strict and nothing meets it.
        """
        answers: list[ChatCompletion] = []

        async def carry_out(job: Job, before: Ledger) -> None:
            candidates = await self._run(job, admitted)
            answers.append(answer.completion(job, candidates, before + job.ledger))

        await self._with_reroute(admitted, carry_out, started=lambda: False)
        return answers[-1]

    async def stream(self, admitted: Admitted, sink: Sink, on_decision: Callable[[str], None]) -> None:
        """Serve a request as a stream of SSE events into `sink`; errors as `complete`, also after the first byte."""

        async def carry_out(job: Job, before: Ledger) -> None:
            on_decision(job.decision.decision_id)
            if _is_one_call(job):
                await self._pass_through(job, admitted, sink)
            else:
                await self._think(job, admitted, sink)
            await sink.write(answer.last_chunk(job, before + job.ledger) + answer.DONE)

        await self._with_reroute(admitted, carry_out, started=lambda: sink.started)

    async def dry_run(self, admitted: Admitted) -> dict[str, Any]:
        """The decision that would be made, and why; nothing is spent and nothing is recorded."""
        decision = await self._decide(admitted, frozenset())
        shown = {name: value for name, value in msgspec.to_builtins(decision).items() if name not in ("embedding", "prompt_text")}
        explanation = {} if admitted.target.model else self._decider.explain(self._ask(admitted, frozenset()))
        return {"decision": shown, "explanation": explanation}

    async def _with_reroute(self, admitted: Admitted, carry_out: CarryOut, *, started: Callable[[], bool]) -> None:
        failed: frozenset[str] = frozenset()
        spent = Ledger()
        while True:
            decision = await self._decide(admitted, failed)
            job: Job | None = None
            try:
                with self._open(decision, admitted) as job:
                    await carry_out(job, spent)
                self._keep(admitted, job)
                return
            except UpstreamError as error:
                if job is None:
                    raise
                failed |= {job.action.model}
                spent = spent + job.ledger
                if started() or is_clients_fault(error) or error.status == GATEWAY_TIMEOUT or not self._may_reroute(admitted, failed):
                    raise

    @contextmanager
    def _open(self, decision: Decision, admitted: Admitted) -> Iterator[Job]:
        """A job, with what it may spend at worst set aside from the key's allowance before anything is recorded."""
        action, text = Action.parse(decision.action), sum(len(message_text(message)) for message in admitted.chat.query.messages)
        guidance = self._follow(decision, admitted)
        cap = guidance.course.cap_tokens if guidance and guidance.course else action.max_tokens
        worst = Ledger(prompt=text // CHARACTERS_A_TOKEN, completion=cap)
        usd = worst.cost_usd(self._config.prices.get(action.model, Price()))
        with (
            admitted.principal.allowance.hold(tokens=cap, usd=usd) as hold,
            self._jobs.open(decision, admitted.chat.query, verifier=admitted.chat.verifier) as job,
        ):
            job.guidance = guidance
            try:
                yield job
            finally:
                hold.spent(tokens=job.ledger.generated, usd=job.cost_usd)

    def _follow(self, decision: Decision, admitted: Admitted) -> Guidance | None:
        tier = self._tier(admitted)
        defaults = tier.constraints if tier else Constraints()
        ask = Ask(admitted.chat.query, tier=decision.tier, defaults=defaults, scarcity=self._congestion.scarcity)
        return self._decider.follow(ask, decision)

    def _keep(self, admitted: Admitted, job: Job) -> None:
        """Remember what the conversation was answered with, for its next turn."""
        chat, chosen = admitted.chat, job.chosen
        if admitted.target.tier is None or chosen is None:
            return
        self._sessions.keep(
            admitted.tenant,
            chat.model,
            chat.query.messages,
            chat.session,
            action=job.action,
            reply=chosen.text,
            call_ids=[call["id"] for call in chosen.tool_calls if call.get("id")],
        )

    def _may_reroute(self, admitted: Admitted, failed: frozenset[str]) -> bool:
        return admitted.target.tier is not None and admitted.chat.action is None and bool(self._available() - failed)

    async def _decide(self, admitted: Admitted, failed: frozenset[str]) -> Decision:
        if admitted.target.model is not None:
            return self._passthrough_decision(admitted, admitted.target.model)
        ask = self._ask(admitted, failed)
        decision = await self._decider.decide(ask)
        if ask.forced is not None and admitted.chat.action is None:
            decision = msgspec.structs.replace(decision, rule=SESSION)
        decision = self._in_form(decision, admitted)
        degraded = decision.degraded or (REROUTED if failed else None)
        return msgspec.structs.replace(decision, tenant=admitted.tenant, tier=admitted.target.tier or "", degraded=degraded)

    def _ask(self, admitted: Admitted, failed: frozenset[str]) -> Ask:
        models = (self._available() - failed) or frozenset(self._pools)
        tier, query = self._tier(admitted), admitted.chat.query
        return Ask(
            msgspec.structs.replace(query, constraints=_hurried(query.constraints)),
            tier=admitted.target.tier or "",
            defaults=_hurried(tier.constraints if tier else Constraints()),
            models=models,
            forced=admitted.chat.action or self._kept(admitted, models),
            scarcity=self._congestion.scarcity,
        )

    def _kept(self, admitted: Admitted, models: frozenset[str]) -> Action | None:
        """The action this conversation had before, where its model can take it."""
        chat = admitted.chat
        kept = self._sessions.recall(admitted.tenant, chat.model, chat.query.messages, chat.session)
        return kept if kept is not None and kept.model in models else None

    def _in_form(self, decision: Decision, admitted: Admitted) -> Decision:
        """The decision, or one plain call of its model where the client fixed the form of the answer.

        Instructions and caps of single-call strategies are made for questions: they would get in the way of tools and
        schemas. Strategies of several samples pick one of them whole, and stay; several answers are several samples.
        """
        action, chat = Action.parse(decision.action), admitted.chat
        if chat.action is not None or not (chat.n > 1 or (fixes_form(chat.query) and is_single_call(action))):
            return decision
        cap = self._passthrough_tokens(admitted, action.model) * chat.n
        plain = str(Action(action.model, PASSTHROUGH, cap))
        return msgspec.structs.replace(decision, action=plain, p_correct=None, p_interval=None, cost_usd=None)

    def _passthrough_decision(self, admitted: Admitted, model: str) -> Decision:
        query = admitted.chat.query
        cap = self._passthrough_tokens(admitted, model) * admitted.chat.n
        return Decision(
            decision_id=new_id("d"),
            query_id=query.query_id,
            created_s=time.time(),
            action=str(Action(model, PASSTHROUGH, cap)),
            propensity=1.0,
            tier=PASSTHROUGH,
            rule=PASSTHROUGH,
            bundle=self._decider.version,
            tenant=admitted.tenant,
        )

    def _passthrough_tokens(self, admitted: Admitted, model: str) -> int:
        """What the client said, or else half of the context: the engine refuses a prompt and a cap longer than that."""
        if admitted.chat.query.sampling.max_tokens is not None:
            return admitted.chat.query.sampling.max_tokens
        context = min(backend.context_tokens for backend in self._config.backend if backend.model == model)
        return max(1, min(context // 2, self._config.server.max_tokens // admitted.chat.n))

    def _available(self) -> frozenset[str]:
        return frozenset(model for model, pool in self._pools.items() if pool.is_available)

    def _check_forced(self, action: Action) -> None:
        try:
            build(action)
            if action.model not in self._pools:
                raise RequestError(f"rheostat.action: no backend serves the model {action.model!r}", param="rheostat.action")
            check_needs(action, self._toolbox, self._pools)
        except ActionError as error:
            raise RequestError(f"rheostat.action: {error}", param="rheostat.action") from error
        if action.max_tokens > self._config.server.max_tokens:
            raise RequestError(
                f"rheostat.action: {action.max_tokens} tokens are more than the {self._config.server.max_tokens} this server allows",
                param="rheostat.action",
            )

    async def _run(self, job: Job, admitted: Admitted) -> tuple[Candidate, ...]:
        if _is_passthrough(job):
            return await self._run_passthrough(job, admitted)
        return (await self._run_action(job, admitted, None),)

    async def _run_passthrough(self, job: Job, admitted: Admitted) -> tuple[Candidate, ...]:
        request = _passthrough_request(job, admitted)
        async with _deadline(self._deadline_s(admitted), job):
            generation = await self._pools[job.action.model].generate(request, job.meter)
        found = _candidates(job, generation.completions)
        _note_samples(job, found)
        return found

    async def _run_action(self, job: Job, admitted: Admitted, on_evidence: OnEvidence | None) -> Candidate:
        deadline_s = self._deadline_s(admitted)
        started = time.monotonic()
        run = partial(self._run_one, job.query, on_evidence, PROGRESS_WAVES if admitted.chat.progress else None)
        try:
            result = await carry_out(job, self._limits(admitted, deadline_s), run)
        except UpstreamError as error:
            if deadline_s is not None and time.monotonic() - started >= deadline_s - TIMER_SLACK_S:
                raise _too_late(job) from error
            raise
        job.answer, job.stop_reason, job.status = result.answer, result.stop_reason, result.status
        job.chosen = result.candidate
        job.samples = len(result.evidence.candidates)
        job.agreement = _agreement(result.evidence.candidates)
        return result.candidate

    async def _run_one(
        self,
        query: Query,
        on_evidence: OnEvidence | None,
        waves: tuple[int, ...] | None,
        action: Action,
        *,
        meter: Meter,
        rule: StopRule | None,
        deadline_s: float | None,
    ) -> Result:
        return await run_action(
            action,
            query,
            self._pools,
            kind=query.kind or "text",
            seed=_seed(),
            rule=rule,
            deadline_s=deadline_s,
            on_evidence=on_evidence,
            waves=waves,
            meter=meter,
            toolbox=self._toolbox,
        )

    def _limits(self, admitted: Admitted, deadline_s: float | None) -> Limits:
        tier = self._tier(admitted)
        constraints = merged(tier.constraints if tier else Constraints(), admitted.chat.query.constraints)
        return Limits(tokens=constraints.max_tokens_total, cost_usd=constraints.max_cost_usd, deadline_s=deadline_s)

    async def _pass_through(self, job: Job, admitted: Admitted, sink: Sink) -> None:
        """One upstream call, its bytes sent on as they come."""
        request = _passthrough_request(job, admitted) if _is_passthrough(job) else _single_request(job, self._toolbox)
        reply = Reply(request, request.model)
        await self._forward(self._pools[request.model].stream(request, job.meter, reply=reply), job, admitted, sink)
        _note_samples(job, _candidates(job, reply.completions))

    async def _forward(self, stream: AsyncIterator[bytes], job: Job, admitted: Admitted, sink: Sink) -> None:
        passage = Passage()
        generator = cast(AsyncGenerator[bytes, None], stream)
        async with _deadline(self._deadline_s(admitted), job), aclosing(generator) as chunks:
            async for chunk in chunks:
                if data := passage.feed(chunk):
                    await sink.write(data)
        if not passage.done:
            model = job.action.model
            raise UpstreamError(f"the stream of {model!r} broke off before its end", backend=model, status=502)

    async def _think(self, job: Job, admitted: Admitted, sink: Sink) -> None:
        """Several upstream calls: progress while they run, then the chosen answer at once."""
        await sink.write(answer.comment({"decision_id": job.decision.decision_id, "action": job.decision.action}))

        async def progress(evidence: Evidence) -> None:
            await sink.write(_progress(job, evidence, reasoning=admitted.chat.progress))

        chosen = await self._run_action(job, admitted, progress)
        await sink.write(answer.answer_deltas(job, chosen))

    def _tier(self, admitted: Admitted) -> TierConfig | None:
        return self._config.tier[admitted.target.tier] if admitted.target.tier else None

    def _deadline_s(self, admitted: Admitted) -> float | None:
        asked = admitted.chat.query.constraints.deadline_s
        tier = self._tier(admitted)
        return _left_s(asked if asked is not None or tier is None else tier.constraints.deadline_s)


def _left_s(deadline_s: float | None) -> float | None:
    """What is left of a deadline: it runs from the arrival of the request, not from the end of its wait for a place."""
    return None if deadline_s is None else max(deadline_s - waited_s(), 0.0)


def _hurried(constraints: Constraints) -> Constraints:
    """The constraints with what is left of the deadline."""
    if constraints.deadline_s is None:
        return constraints
    return msgspec.structs.replace(constraints, deadline_s=_left_s(constraints.deadline_s))


def _is_passthrough(job: Job) -> bool:
    return job.action.strategy == PASSTHROUGH


def fixes_form(query: Query) -> bool:
    """Whether the client asks for tool calls or for a schema, which an answer must keep."""
    extra = query.sampling.extra
    formatted = (extra.get("response_format") or {}).get("type") not in (None, "text")
    return formatted or bool(extra.get("tools")) or bool(extra.get("structured_outputs"))


def _is_one_call(job: Job) -> bool:
    return _is_passthrough(job) or (is_single_call(job.action) and job.decision.rule != SEQUENTIAL)


def _passthrough_request(job: Job, admitted: Admitted) -> GenerateRequest:
    """What the client asked, word for word, with the engine's own defaults for what it left open."""
    sampling, n = job.query.sampling, admitted.chat.n
    return GenerateRequest(
        model=job.action.model,
        messages=job.query.messages,
        max_tokens=job.action.max_tokens // n,
        n=n,
        temperature=1.0 if sampling.temperature is None else sampling.temperature,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        seed=sampling.seed,
        stop=sampling.stop,
        extra=sampling.extra,
    )


def _single_request(job: Job, toolbox: Toolbox) -> GenerateRequest:
    strategy = cast(SingleCall, build(job.action))
    context = Context(
        model=job.action.model,
        call=_NoCall(),
        left_tokens=lambda: job.meter.left_tokens,
        kind=job.query.kind or "text",
        seed=_seed(),
        toolbox=toolbox,
    )
    return strategy.request(job.query, context)


class _NoCall:
    """A request that is streamed is sent by the executor, not by its strategy."""

    async def __call__(self, request: GenerateRequest, kind: AttemptKind = "completion") -> Never:
        raise NotImplementedError(f"a streamed request of {request.model} makes no {kind} call of its own")

    def book(self, attempt: Attempt) -> Never:
        raise NotImplementedError(f"a streamed request makes no {attempt.kind} call of its own")


def _candidates(job: Job, completions: Sequence[Completion]) -> tuple[Candidate, ...]:
    kind = job.query.kind or "text"
    return tuple(candidate(found, index=found.index, model=job.action.model, kind=kind) for found in completions)


def _agreement(found: Sequence[Candidate]) -> float | None:
    """The leader's share of the samples; one sample agrees with nobody."""
    return count_votes(found).agreement if len(found) > 1 else None


def _note_samples(job: Job, found: Sequence[Candidate]) -> None:
    """What is known at the end of a single call."""
    job.samples, job.agreement = len(found), _agreement(found)
    if found:
        job.chosen, job.answer, job.stop_reason = found[0], found[0].answer, found[0].finish_reason


@asynccontextmanager
async def _deadline(deadline_s: float | None, job: Job) -> AsyncIterator[None]:
    guard = asyncio.timeout(deadline_s)
    try:
        async with guard:
            yield
    except TimeoutError as error:
        if not guard.expired():
            raise
        raise _too_late(job) from error


def _too_late(job: Job) -> UpstreamError:
    return UpstreamError(f"{job.decision.action} had no answer before the deadline", backend=job.action.model, status=GATEWAY_TIMEOUT)


def _progress(job: Job, evidence: Evidence, *, reasoning: bool) -> bytes:
    votes = count_votes(evidence.candidates)
    told = answer.comment({"samples": votes.drawn, "planned": evidence.planned, "leader": votes.leader, "agreement": votes.agreement})
    if not reasoning:
        return told
    line = f"{votes.drawn} of at most {evidence.planned} samples; {votes.leader!r} leads with {votes.v1}.\n"
    return told + answer.delta(job, {"reasoning_content": line})


def _seed() -> int:
    return secrets.randbelow(2**31)
