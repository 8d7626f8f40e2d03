"""What happens to an answer before it is delivered, where the stakes are high: it is checked, and may be followed by another.

A refused answer is followed once by that of the likeliest action that is left; the better of the two goes out, and what
goes out says whether it passed. All of it is on the request's bill. Knows neither HTTP nor who checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rheostat.data.errors import BudgetError, UpstreamError
from rheostat.data.schema import Action, Decision
from rheostat.policies.base import Candidate
from rheostat.policies.critique import CHECK_TOKENS
from rheostat.policies.run import Result
from rheostat.router.ruling import FORCED
from rheostat.serving.checker import Checker
from rheostat.serving.context import note
from rheostat.serving.job import Job
from rheostat.serving.metrics import PASSTHROUGH, Metrics
from rheostat.serving.path import Step
from rheostat.serving.plain_call import breaks_form
from rheostat.serving.pool import Pools
from rheostat.serving.runner import OnEvidence, Runner, note_result
from rheostat.serving.single_call import is_passthrough
from rheostat.serving.steps import Limits
from rheostat.serving.terms import Terms
from rheostat.serving.wire import Chat

UNKNOWN = 0.5  # an answer that nobody could judge is between a refused and a passed one
RESULTS = {True: "passed", False: "refused", None: "unknown"}


class Verification:
    """Runs jobs, and checks the answers of those with high stakes.

    Args:
        runner: runs the actions.
        pools: the model servers.
        checker: looks at answers.
        escalate: whether a refused answer is followed by another.
        metrics: counts verdicts.
    """

    def __init__(self, runner: Runner, pools: Pools, checker: Checker, *, escalate: bool, metrics: Metrics) -> None:
        self._runner = runner
        self._pools = pools
        self._checker = checker
        self._escalate = escalate
        self._metrics = metrics

    async def run(self, job: Job, chat: Chat, terms: Terms, on_evidence: OnEvidence | None = None) -> tuple[Candidate, ...]:
        """The answers: one, or as many as the client wants from a plain call; the job knows whether they passed.

        Raises:
            UpstreamError: no backend gave an answer, or not in time.
        """
        if is_passthrough(job):
            candidates = await self._runner.run_passthrough(job, chat, terms)
            if terms.high_stakes:
                self._tell(job, await self._checker.scores(job, terms, candidates))
            return candidates
        result = await self._runner.run_action(job, chat, terms, on_evidence)
        if terms.high_stakes:
            result = await self._checked(_Asked(job, chat, terms, on_evidence), result)
        return (result.candidate,)

    def next_action(self, decision: Decision, chat: Chat, tried: Sequence[str] = ()) -> Action | None:
        """The action that would follow a refused answer: the likeliest of the decision's alternatives that fits and is left.

        None where the client named the action, after a plain call, where there is none left, or where it was turned off.
        """
        if not self._escalate or decision.rule == FORCED or Action.parse(decision.action).strategy == PASSTHROUGH:
            return None
        done = (decision.action, *tried)
        left = {Action.parse(spelling): p for spelling, (p, _) in decision.alternatives.items() if spelling not in done}
        return max((action for action in left if not breaks_form(action, chat.query)), key=left.__getitem__, default=None)

    def caps(self, decision: Decision, chat: Chat) -> list[tuple[str, int]]:
        """What the answers may take besides their own action: model and tokens of their checks, and of another answer with its."""
        action = self.next_action(decision, chat)
        first = (Action.parse(decision.action).model, chat.n * CHECK_TOKENS)
        return [first] if action is None else [first, (action.model, action.max_tokens + CHECK_TOKENS)]

    async def _checked(self, asked: _Asked, first: Result) -> Result:
        """The answer that goes out."""
        job, terms = asked.job, asked.terms
        done, (score,) = job.action, await self._checker.scores(job, terms, [first.candidate], first.evidence.candidates)
        second = await self._another(asked, first) if self._checker.passes(score) is False else None
        if second is None:
            self._tell(job, [score])
            return first
        (second_score,) = await self._checker.scores(job, terms, [second.candidate], second.evidence.candidates)
        if _worth(second_score) < _worth(score):
            job.action = done
            note_result(job, first)
            self._tell(job, [score])
            return first
        self._tell(job, [second_score])
        return second

    async def _another(self, asked: _Asked, first: Result) -> Result | None:
        """What another action answers; None where there is none, or no means for it. The job's path tells of both."""
        job, spent = asked.job, asked.job.ledger.generated
        action = self.next_action(job.decision, asked.chat, [step.action for step in job.path])
        if action is None or not self._has_means(job, action, asked.terms.limits):
            return None
        if not job.path:
            job.path.append(Step(action=str(job.action), tokens=spent, answer=first.answer, p_correct=job.decision.p_correct))
        done, job.action = job.action, action
        job.meter.cap_tokens = spent + action.max_tokens
        job.guidance = job.guidance and replace(job.guidance, course=None)
        try:
            result = await self._runner.run_action(job, asked.chat, asked.terms, asked.on_evidence)
        except (UpstreamError, BudgetError):
            job.path.append(Step(action=str(action), tokens=job.ledger.generated - spent, answer=None, failed=True))
            job.action = done
            return None
        p_correct, _ = job.decision.alternatives[str(action)]
        job.path.append(Step(action=str(action), tokens=job.ledger.generated - spent, answer=result.answer, p_correct=p_correct))
        return result

    def _has_means(self, job: Job, action: Action, limits: Limits) -> bool:
        """Whether its model, its tokens, its money and time for it are there."""
        _, cost_usd = job.decision.alternatives[str(action)]
        return (
            action.model in self._pools
            and (limits.tokens is None or job.ledger.generated + action.max_tokens <= limits.tokens)
            and (limits.cost_usd is None or job.cost_usd + cost_usd <= limits.cost_usd)
            and (limits.deadline_s is None or limits.deadline_s > 0)
        )

    def _tell(self, job: Job, scores: Sequence[float | None]) -> None:
        """Say whether all that goes out passed; a refusal goes before what is not known."""
        verdicts = [self._checker.passes(score) for score in scores]
        job.verified = False if False in verdicts else None if None in verdicts else True
        note(verified=job.verified)
        self._metrics.verifications.labels(RESULTS[job.verified]).inc()


@dataclass(frozen=True, slots=True)
class _Asked:
    """One job with everything that running it takes."""

    job: Job
    chat: Chat
    terms: Terms
    on_evidence: OnEvidence | None


def _worth(score: float | None) -> float:
    return UNKNOWN if score is None else score
