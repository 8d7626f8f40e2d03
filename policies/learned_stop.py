"""The learned stop rule in an action's spelling, and how it gets its knowledge: votes, scores and a prior in, stop or go on out.

`stop=learned` in an action means: the rule that was fitted for this action, with the prior of the query at hand and what
scores its answers, all of which the caller brings. Where nobody brings them it is `lead(2)`, the best published rule on
our logs. Knows nothing of how the rule was fitted or where priors and scores come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from rheostat.policies.base import Candidate, Evidence, StopRule
from rheostat.policies.evidence import count_votes, in_order
from rheostat.policies.stopping import Joined, Learned, Rule

VOTE_FEATURES = ("first", "second", "counted", "distinct", "streak", "logprob", "leader_logprob", "leader_score", "rival_score")
NO_SCORE = -3.0  # log-odds of an answer that is not there

Score = Callable[[str], float]  # log-odds that an answer is right, from what it says


class Weighs(Protocol):
    """Weighs stopping against going on."""

    @property
    def n_prior(self) -> int:
        """How many numbers a prior has."""
        ...

    def advantage(self, features: npt.NDArray[np.float64], drawn: int) -> npt.NDArray[np.float64]:
        """(n,) value of stopping over going on after `drawn` samples, for (n, len(VOTE_FEATURES) + n_prior) rows."""
        ...

    @property
    def reads_logprobs(self) -> bool:
        """Whether the log-probabilities among the features matter to it."""
        ...

    @property
    def reads_scores(self) -> bool:
        """Whether the scores of answers among the features matter to it."""
        ...


@dataclass(frozen=True)
class PriorRule(Rule):
    """A fitted rule with the prior of the query at hand and what scores its answers; composes with the other rules."""

    policy: Weighs
    prior: tuple[float, ...] = ()
    score: Score | None = None
    spelling: ClassVar[str] = "learned"

    def __post_init__(self) -> None:
        if len(self.prior) != self.policy.n_prior:
            raise ValueError(
                f"the stop rule was fitted with a prior of {self.policy.n_prior} numbers, here are {len(self.prior)}: refit it"
            )

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop where the policy says that going on is not worth its price.

        As the published rule does where the policy reads log-probabilities that the engine did not give, or scores that
        nobody brought.
        """
        drawn = len(evidence.candidates)
        if drawn == 0:
            return None
        if (self.policy.reads_logprobs and not _likely(evidence.candidates)) or (self.policy.reads_scores and self.score is None):
            return Learned()(evidence)
        score = self.score if self.policy.reads_scores else None
        row = np.array([[*vote_features(evidence.candidates, score), *self.prior]], dtype=np.float64)
        return str(self) if self.policy.advantage(row, drawn)[0] >= 0 else None

    def __str__(self) -> str:
        return self.spelling


def informed(rule: Rule, learned: Rule) -> Rule:
    """The rule with `learned` in the place of every learned part of it."""
    if isinstance(rule, Learned):
        return learned
    if isinstance(rule, Joined):
        return type(rule).of(informed(part, learned) for part in rule.rules)
    return rule


def is_learned(rule: StopRule | None) -> bool:
    """Whether a part of the rule is learned: then it may want the log-probabilities of samples."""
    return isinstance(rule, Learned | PriorRule) or (isinstance(rule, Joined) and any(map(is_learned, rule.rules)))


def vote_features(candidates: Sequence[Candidate], score: Score | None = None) -> tuple[float, ...]:
    """The `VOTE_FEATURES` of candidates.

    Votes of leader and runner-up, parsed, different answers, newest votes that agree; then the mean log-probability of
    all parsed candidates and of the leader's, 0 where none is known; then the scores of these two, 0 where nothing scores.
    """
    votes = count_votes(candidates)
    answers = [candidate.answer for candidate in in_order(candidates) if candidate.answer is not None]
    streak = next((at for at, answer in enumerate(reversed(answers)) if answer != answers[-1]), len(answers))
    mine = [candidate for candidate in candidates if votes.leader is not None and candidate.answer == votes.leader]
    said = (0.0, 0.0) if score is None else tuple(NO_SCORE if each is None else score(each) for each in (votes.leader, votes.runner_up))
    return votes.v1, votes.v2, votes.counted, votes.distinct, streak, _mean(_likely(candidates)), _mean(_likely(mine)), *said


def _likely(candidates: Sequence[Candidate]) -> list[float]:
    """The log-probabilities that are known of parsed candidates."""
    given = [candidate.mean_logprob for candidate in candidates if candidate.answer is not None]
    return [each for each in given if each is not None and math.isfinite(each)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
