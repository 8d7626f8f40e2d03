"""The sequential strategies: an attempt, what is wrong with it, a better attempt, until nothing is wrong.

Models correct themselves badly when nobody but themselves checks (Huang et al., 2023), so the best-scored round is
given and not the last. Sources: Madaan et al., 2023 (Self-Refine); Weng et al., 2023 (self-verification).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import ClassVar, NamedTuple

from msgspec.structs import replace

from rheostat.data.errors import BudgetError, UpstreamError
from rheostat.data.schema import Query
from rheostat.policies.arguments import measure, one_model, whole
from rheostat.policies.asking import ask, share
from rheostat.policies.base import Candidate, Context, Evidence, GenerateRequest
from rheostat.policies.critique import CHECK_TOKENS, approves, critique
from rheostat.policies.evidence import candidate
from rheostat.policies.prompts import Messages, revise, step_by_step
from rheostat.policies.scoring import LOGPROB, PERFECT, Scores, may_win
from rheostat.policies.together import end_of

CRITIC = "critic"  # the measure of a run that only its own critic judges
MAX_ROUNDS = 16
UNKNOWN = 0.5  # between an attempt that was found wrong and one that was found right


class Rounds(NamedTuple):
    """At most `rounds` revisions, asked of `checker`; the first is of the attempt at `start`, the others of the last one."""

    checker: str
    rounds: int
    start: int = -1


class Refine:
    """refine(rounds): a chain of thought, then as often as `rounds` a critique and a revision by the same model.

    Ends when the critique finds nothing, or when the measure `by` gives a perfect score.
    """

    name: ClassVar[str] = "refine"
    single_call: ClassVar[bool] = False

    def __init__(self, rounds: int = 2, by: str = CRITIC) -> None:
        self.rounds = whole(self.name, "rounds", rounds, high=MAX_ROUNDS)
        self.by = measure(self.name, by, but=LOGPROB)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the rounds so far after every revision."""
        async for evidence in _from_scratch(query, context, Rounds(context.model, self.rounds), self.by):
            yield evidence


class Verify:
    """verify(checker): a chain of thought, which a second model checks and corrects, as often as `rounds`."""

    name: ClassVar[str] = "verify"
    single_call: ClassVar[bool] = False

    def __init__(self, checker: str, rounds: int = 1, by: str = CRITIC) -> None:
        self.checker = one_model(self.name, "checker", checker)
        self.rounds = whole(self.name, "rounds", rounds, high=MAX_ROUNDS)
        self.by = measure(self.name, by, but=LOGPROB)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the rounds so far after every revision."""
        async for evidence in _from_scratch(query, context, Rounds(self.checker, self.rounds), self.by):
            yield evidence


async def _from_scratch(query: Query, context: Context, plan: Rounds, by: str) -> AsyncIterator[Evidence]:
    """A greedy chain of thought that leaves its share of the cap to every revision, and the rounds after it."""
    scores = None if by == CRITIC else Scores(query, context, by)
    max_tokens = share(query, context.left_tokens(), plan.rounds + 1)
    request = ask(query, context, how=step_by_step, max_tokens=max_tokens, temperature=0.0)
    first = await _attempt(query, context, request, index=0)
    async for evidence in improve(query, context, [first], plan, scores):
        yield evidence


async def improve(
    query: Query, context: Context, attempts: Sequence[Candidate], plan: Rounds, scores: Scores | None = None
) -> AsyncIterator[Evidence]:
    """Yield all attempts after every critique and revision; the best-scored is chosen, the earlier of equals.

    Args:
        query: what is asked.
        context: the means.
        attempts: what there is already, in submission order.
        plan: who checks, how often, and where to begin.
        scores: what judges the attempts; the critic's own verdicts when left out.
    """
    run = _Run(query, context, plan, scores)
    attempts = await run.judged(attempts)
    planned = len(attempts) + plan.rounds
    at = plan.start
    end = "perfect" if attempts[at].score == PERFECT else ""
    while len(attempts) < planned and not end:
        yield _evidence(attempts, planned, scores)
        attempts, end = await run.improved(attempts, at, planned - len(attempts))
        at = -1
    yield _evidence(attempts, planned, scores, end=end or "complete")


class _Run:
    """The rounds of one query."""

    def __init__(self, query: Query, context: Context, plan: Rounds, scores: Scores | None) -> None:
        self._query = query
        self._context = context
        self._plan = plan
        self._scores = scores

    async def judged(self, attempts: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The attempts with their scores; a critic gives its own while it works."""
        return await self._scores.given(attempts) if self._scores else tuple(attempts)

    async def improved(self, attempts: tuple[Candidate, ...], at: int, rounds_left: int) -> tuple[tuple[Candidate, ...], str]:
        """The attempts after a critique and a revision of the one at `at`, and why that was the last, if it was."""
        try:
            said = await self._critique(attempts[at], rounds_left)
            if self._scores is None:
                judged = replace(attempts[at], score=_verdict(said))
                attempts = tuple(judged if each is attempts[at] else each for each in attempts)
            if approves(said):
                return attempts, "approved"
            revision = await self._revision(attempts[at], said, rounds_left, index=max(each.index for each in attempts) + 1)
            attempts = await self.judged((*attempts, revision))
        except (BudgetError, UpstreamError) as error:
            return attempts, end_of(error)
        return attempts, "perfect" if attempts[-1].score == PERFECT else ""

    async def _critique(self, attempt: Candidate, rounds_left: int) -> str:
        max_tokens = min(CHECK_TOKENS, max(1, self._context.left_tokens() // (2 * rounds_left)))
        return await critique(self._query, attempt.text, self._context.call, model=self._plan.checker, max_tokens=max_tokens)

    async def _revision(self, attempt: Candidate, said: str, rounds_left: int, *, index: int) -> Candidate:
        def how(messages: Messages) -> Messages:
            return revise(messages, attempt.text, said)

        max_tokens = share(self._query, self._context.left_tokens(), rounds_left)
        request = ask(self._query, self._context, how=how, max_tokens=max_tokens, temperature=0.0, first=index)
        return await _attempt(self._query, self._context, replace(request, model=self._plan.checker), index=index)


async def _attempt(query: Query, context: Context, request: GenerateRequest, *, index: int) -> Candidate:
    completion = (await context.call(request)).completions[0]
    return candidate(completion, index=index, model=request.model, kind=context.kind, asked=query.sampling.extra)


def _verdict(said: str) -> float | None:
    approved = approves(said)
    return None if approved is None else float(approved)


def _evidence(attempts: Sequence[Candidate], planned: int, scores: Scores | None, *, end: str = "") -> Evidence:
    by, reads_reply = (scores.by, scores.reads_reply) if scores else (CRITIC, False)

    def rank(at: int) -> tuple[bool, float, int]:
        score = attempts[at].score
        return may_win(attempts[at], reads_reply=reads_reply), UNKNOWN if score is None else score, -at

    chosen = max(range(len(attempts)), key=rank)
    why = f"round {chosen + 1} of {len(attempts)} by {by}"
    return Evidence(candidates=tuple(attempts), chosen=chosen, why=why, planned=planned, last=bool(end), end=end)
