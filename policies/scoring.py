"""How good a candidate is, by a measure that a strategy names: log-probability, or a scorer's verdict.

Identical answers are scored once. A scorer that fails, or does not fit under the cap, abstains: an abstention is no
score, never a default one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

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

    A scorer that reads whole replies (`reads_reply`) is asked for each distinct text: two programs may end in one line
    that is read as their answer. One that holds candidates against one another (`sees_all`) is shown all of them after
    every wave instead.

    Raises:
        ActionError: the measure needs a scorer that is not there.
    """

    def __init__(self, query: Query, context: Context, by: str) -> None:
        self.by = by
        self._query = query
        self._context = context
        self._scorer = None if by == LOGPROB else _of_one_query(scorer_of(by, context))
        self._known: dict[str | None, float | None] = {}

    @property
    def reads_reply(self) -> bool:
        """Whether the scorer judges whole replies, so that one without an answer may be right too."""
        return bool(getattr(self._scorer, "reads_reply", False))

    @property
    def sees_all(self) -> bool:
        """Whether the scorer holds candidates against one another."""
        return bool(getattr(self._scorer, "sees_all", False))

    async def of(self, candidates: Sequence[Candidate], at: int) -> float | None:
        """The score of the candidate at a place; the others are shown to a scorer that compares, and cost nothing else."""
        if self.sees_all:
            return (await self.given(candidates))[at].score
        return (await self.given([candidates[at]]))[0].score

    async def given(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The candidates with their scores; one without an answer is not worth a call of a scorer of answers."""
        if self._scorer is None:
            return tuple(candidates)
        if self.sees_all:
            verdicts = await self._ask(self._scorer, candidates)
            return tuple(replace(each, score=verdict) for each, verdict in zip(candidates, verdicts, strict=True))
        new = {key: each for each in reversed(candidates) if (key := self._key(each)) is not None and key not in self._known}
        fresh = sorted(new.values(), key=lambda each: each.index)
        self._known |= zip(map(self._key, fresh), await self._ask(self._scorer, fresh), strict=True)
        return tuple(replace(each, score=self._known.get(self._key(each))) for each in candidates)

    def _key(self, each: Candidate) -> str | None:
        """What two candidates share that need scoring once."""
        return each.text if self.reads_reply else each.answer

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


def _of_one_query(scorer: Scorer) -> Scorer:
    """The scorer as it serves one query; see `base.GroupScorer`."""
    for_query = getattr(scorer, "for_query", None)
    return scorer if for_query is None else cast(Scorer, for_query())


def merit(each: Candidate, by: str) -> float | None:
    """How good a candidate is, in [0, 1]; None where that is not known."""
    if by != LOGPROB:
        return each.score
    unknown = each.mean_logprob is None or math.isnan(each.mean_logprob)
    return None if unknown else math.exp(min(0.0, each.mean_logprob or 0.0))


def may_win(each: Candidate, *, reads_reply: bool) -> bool:
    """Whether a candidate goes before those without an answer: it has one, or its whole reply was judged."""
    return each.answer is not None or (reads_reply and each.score is not None)


def best(candidates: Sequence[Candidate], by: str, *, reads_reply: bool = False) -> int:
    """The position of the best candidate: one that `may_win` goes before one that may not, the earlier of equals first."""

    def rank(at: int) -> tuple[bool, float, int]:
        value = merit(candidates[at], by)
        return may_win(candidates[at], reads_reply=reads_reply), -math.inf if value is None else value, -at

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
