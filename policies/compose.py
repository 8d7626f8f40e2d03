"""Parallel, then sequential: draw many, verify each, take the best, refine it. Built of the parts of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import ClassVar

from msgspec.structs import replace

from rheostat.data.schema import Query
from rheostat.policies.arguments import measure, spread, whole
from rheostat.policies.base import Candidate, Context, Evidence
from rheostat.policies.drawing import Draw, draw, parse_waves
from rheostat.policies.portion import portion
from rheostat.policies.rounds import MAX_ROUNDS, UNKNOWN, Rounds, improve
from rheostat.policies.scoring import LOGPROB, PERFECT, Scores, may_win


class Compose:
    """compose(n, rounds): n chains of thought, each answer scored, the best one revised as often as `rounds`.

    Answers rank by their score, then by how many chains gave them. `checker` is the model that criticises and revises,
    the strategy's own when left out. Revisions are scored too: the best of all is given.
    """

    name: ClassVar[str] = "compose"
    single_call: ClassVar[bool] = False
    ends_early: ClassVar[bool] = True  # at a perfect score

    def __init__(self, n: int = 8, rounds: int = 1, by: str = "self", checker: str = "", temperature: float = 0.8, waves: str = "") -> None:
        self.n = whole(self.name, "n", n)
        self.rounds = whole(self.name, "rounds", rounds, high=MAX_ROUNDS)
        self.by = measure(self.name, by, but=LOGPROB)
        self.checker = checker
        self.temperature = spread(self.name, temperature)
        self.waves = parse_waves(waves)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the samples after every wave, then the rounds.

        Raises:
            ActionError: by a scorer that is not there.
        """
        scores = Scores(query, context, self.by)
        planned = self.n + self.rounds
        # A check and a revision for every round, a check for every sample: what is left over is the samples'.
        samples = portion(context, context.left_tokens() * self.n // (2 * self.n + 2 * self.rounds))
        drawn: tuple[Candidate, ...] = ()
        async for wave in draw(query, samples, Draw(self.n, self.temperature, self.waves)):
            drawn = await scores.given(wave.candidates)
            start = best_of(drawn, reads_reply=scores.reads_reply)
            perfect = drawn[start].score == PERFECT
            end = "perfect" if perfect else ""
            why = f"best of {len(drawn)} by {self.by}, before refining"
            yield replace(wave, candidates=drawn, chosen=start, why=why, planned=planned, last=perfect, end=end)
            if perfect:
                return
        plan = Rounds(self.checker or context.model, self.rounds, start=best_of(drawn, reads_reply=scores.reads_reply))
        async for evidence in improve(query, context, drawn, plan, scores):
            yield evidence


def best_of(candidates: tuple[Candidate, ...], *, reads_reply: bool = False) -> int:
    """The position of the best one: answered, by score, by votes, the earlier of equals; see `scoring.may_win`."""
    votes = Counter(each.answer for each in candidates)

    def rank(at: int) -> tuple[bool, float, int, int]:
        each = candidates[at]
        return not may_win(each, reads_reply=reads_reply), -(UNKNOWN if each.score is None else each.score), -votes[each.answer], at

    return min(range(len(candidates)), key=rank)
