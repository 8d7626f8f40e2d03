"""How good a candidate is, by a measure that a strategy names: log-probability, or a scorer's verdict.

Identical answers are scored once. A scorer that fails, or does not fit under the cap, abstains: an abstention is no
score, never a default one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from rheostat.data.errors import ActionError
from rheostat.data.schema import Query
from rheostat.policies.base import Candidate, Context, Scorer
from rheostat.policies.critique import SelfCheck
from rheostat.policies.together import Failed, together

LOGPROB = "logprob"
PERFECT = 1.0


class Scores:
    """The verdicts of one measure on the candidates of one query, each distinct answer asked for once.

    A scorer that holds candidates against one another (`sees_all`) is shown all of them after every wave instead.

    Raises:
        ActionError: the measure needs a scorer that is not there.
    """

    def __init__(self, query: Query, context: Context, by: str) -> None:
        self.by = by
        self._query = query
        self._context = context
        self._scorer = None if by == LOGPROB else scorer_of(by, context)
        self._by_answer: dict[str, float | None] = {}

    async def given(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The candidates with their scores; one without an answer is not worth a call."""
        if self._scorer is None:
            return tuple(candidates)
        if getattr(self._scorer, "sees_all", False):
            verdicts = await self._ask(self._scorer, candidates)
            return tuple(replace(each, score=verdict) for each, verdict in zip(candidates, verdicts, strict=True))
        new = {each.answer: each for each in reversed(candidates) if each.answer is not None and each.answer not in self._by_answer}
        fresh = sorted(new.values(), key=lambda each: each.index)
        self._by_answer |= zip([each.answer or "" for each in fresh], await self._ask(self._scorer, fresh), strict=True)
        return tuple(replace(each, score=None if each.answer is None else self._by_answer[each.answer]) for each in candidates)

    async def _ask(self, scorer: Scorer, fresh: Sequence[Candidate]) -> list[float | None]:
        score_all = getattr(scorer, "score_all", None)
        if score_all is not None and fresh:
            (verdicts,) = await together([score_all(self._query, tuple(fresh), self._context.call)])
            return [None] * len(fresh) if isinstance(verdicts, Failed) else list(verdicts)
        ended = await together([scorer.score(self._query, each, self._context.call) for each in fresh])
        return [None if isinstance(each, Failed) else each for each in ended]


def scorer_of(by: str, context: Context) -> Scorer:
    """The scorer a measure names: the query's own verifier, the model's own check, or one of the toolbox.

    Raises:
        ActionError: there is none of that name.
    """
    if by == "self":
        return SelfCheck(context.model)
    found = context.scorer if by == "verifier" and context.scorer else context.toolbox.scorers.get(by)
    if found is None:
        known = ", ".join(sorted({LOGPROB, "self", *context.toolbox.scorers}))
        raise ActionError(f"by={by} has no scorer to ask: pass one, or take one of {known}")
    return found


def merit(each: Candidate, by: str) -> float | None:
    """How good a candidate is, in [0, 1]; None where that is not known."""
    if by != LOGPROB:
        return each.score
    unknown = each.mean_logprob is None or math.isnan(each.mean_logprob)
    return None if unknown else math.exp(min(0.0, each.mean_logprob or 0.0))


def best(candidates: Sequence[Candidate], by: str) -> int:
    """The position of the best candidate: one with an answer goes before one without, the earlier of equals first."""

    def rank(at: int) -> tuple[bool, float, int]:
        value = merit(candidates[at], by)
        return candidates[at].answer is not None, -math.inf if value is None else value, -at

    return max(range(len(candidates)), key=rank)


def elect_weighted(candidates: Sequence[Candidate], by: str) -> int:
    """The position of the first candidate that gave the answer with the largest sum of weights.

    A candidate whose weight is not known counts as the average one; where none is known every vote counts alike.
    """
    known = [value for each in candidates if each.answer is not None and (value := merit(each, by)) is not None]
    average = sum(known) / len(known) if known else 1.0
    sums: dict[str, float] = {}
    for each in candidates:
        if each.answer is not None:
            value = merit(each, by)
            sums[each.answer] = sums.get(each.answer, 0.0) + (average if value is None else value)
    leader = max(sums, key=sums.__getitem__, default=None)
    return next((at for at, each in enumerate(candidates) if each.answer == leader), 0)
