"""The parallel strategies: many samples in waves, then a vote or the best of them.

Every wave yields evidence; whoever consumes it decides on the next one. Sources: Wang et al., 2022 (self-consistency);
Cobbe et al., 2021 (best of n); Li et al., 2023 (votes weighted by a verifier).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

from msgspec.structs import replace

from rheostat.data.schema import Query
from rheostat.policies.arguments import measure, names, share_of_one, spread, whole
from rheostat.policies.base import Context, Evidence, StopRule
from rheostat.policies.drawing import Draw, draw, parse_waves
from rheostat.policies.evidence import count_votes, elect
from rheostat.policies.learned_stop import is_learned
from rheostat.policies.scoring import LOGPROB, PERFECT, Scores, best, elect_weighted
from rheostat.policies.stopping import parse_rule


class SelfConsistency:
    """self_consistency(k): k chains of thought, and the answer most of them give.

    `stop` is the rule that ends sampling early, as in `beta(0.95)`; none draws all k. `waves` are the sizes of the
    requests, as in `2+2+4`, the last one repeating; none leaves them to the context.
    """

    name: ClassVar[str] = "self_consistency"
    single_call: ClassVar[bool] = False

    def __init__(self, k: int, temperature: float = 0.8, stop: str = "", waves: str = "") -> None:
        self.k = whole(self.name, "k", k)
        self.temperature = spread(self.name, temperature)
        self.rule: StopRule | None = parse_rule(stop) if stop else None
        self.waves = parse_waves(waves)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the vote after every wave."""
        plan = Draw(self.k, self.temperature, self.waves, logprobs=is_learned(self.rule))
        async for wave in draw(query, context, plan):
            votes = count_votes(wave.candidates)
            why = f"{votes.v1} of {votes.drawn} votes" if votes.v1 else "no sample could be parsed: the first one"
            yield replace(wave, chosen=elect(wave.candidates), why=why)


class WeightedVote:
    """weighted_vote(k): k chains of thought, and the answer with the largest sum of weights.

    The weight of a chain is its score by a verifier or reward model, or with `by=logprob` its probability per token.
    `models`, as in `pocket+pocket-large`, draws from several models in turn: an ensemble.
    """

    name: ClassVar[str] = "weighted_vote"
    single_call: ClassVar[bool] = False

    def __init__(self, k: int, by: str = LOGPROB, models: str = "", temperature: float = 0.8, stop: str = "", waves: str = "") -> None:
        self.k = whole(self.name, "k", k)
        self.by = measure(self.name, by)
        self.models = names(models)
        self.temperature = spread(self.name, temperature)
        self.rule: StopRule | None = parse_rule(stop) if stop else None
        self.waves = parse_waves(waves)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the weighted vote after every wave.

        Raises:
            ActionError: by a scorer that is not there.
        """
        scores = Scores(query, context, self.by)
        plan = Draw(self.k, self.temperature, self.waves, logprobs=self.by == LOGPROB, models=self.models)
        async for wave in draw(query, context, plan):
            weighed = await scores.given(wave.candidates)
            yield replace(
                wave, candidates=weighed, chosen=elect_weighted(weighed, self.by), why=f"most weight of {len(weighed)} by {self.by}"
            )


class BestOfN:
    """best_of_n(n): n chains of thought, and the one that is best by a verifier, a reward model or log-probability.

    A sample with an answer goes before one without, unless the measure reads whole replies. Drawing ends once a score reaches `enough`:
    more samples would mostly find texts that please the scorer (Gao et al., 2022).
    """

    name: ClassVar[str] = "best_of_n"
    single_call: ClassVar[bool] = False

    def __init__(
        self, n: int, by: str = LOGPROB, enough: float = PERFECT, temperature: float = 0.8, stop: str = "", waves: str = ""
    ) -> None:
        self.n = whole(self.name, "n", n)
        self.by = measure(self.name, by)
        self.enough = share_of_one(self.name, "enough", enough)
        self.temperature = spread(self.name, temperature)
        self.rule: StopRule | None = parse_rule(stop) if stop else None
        self.waves = parse_waves(waves)

    @property
    def ends_early(self) -> bool:
        """Whether a score may end the drawing; log-probabilities rank and are no verdicts."""
        return self.by != LOGPROB

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the best so far after every wave; one that is good enough is the last.

        Raises:
            ActionError: by a scorer that is not there.
        """
        scores = Scores(query, context, self.by)
        async for wave in draw(query, context, Draw(self.n, self.temperature, self.waves, logprobs=self.by == LOGPROB)):
            ranked = await scores.given(wave.candidates)
            chosen = best(ranked, self.by, reads_reply=scores.reads_reply)
            score = ranked[chosen].score
            end = "" if score is None or score < self.enough else "perfect" if score == PERFECT else "good_enough"
            why = f"best of {len(ranked)} by {self.by}"
            yield replace(wave, candidates=ranked, chosen=chosen, why=why, last=wave.last or bool(end), end=end)
