"""The learned stop rule, as served: votes and a prior about the query in, stop or go on out.

For each number of samples drawn a small LightGBM model tells how much stopping now is worth over going on; its sign
decides. Knows nothing of how it was fitted (see `training.stopping`) or where priors come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import BundleError
from rheostat.policies.base import Candidate, Evidence
from rheostat.policies.evidence import count_votes, in_order
from rheostat.policies.stopping import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    import lightgbm

VOTE_FEATURES = ("first", "second", "counted", "distinct", "streak")


@dataclass(frozen=True)
class LearnedStop:
    """A stop policy over at most `len(steps) + 1` samples.

    Attributes:
        steps: LightGBM texts; the n-th (from 1) gives value of stopping minus value of going on after n samples, in
            reward, from the `VOTE_FEATURES` followed by the prior. An empty text never stops there. Garbage here kills
            the process: hash before parsing.
        n_prior: numbers in a prior; 0 for a rule that looks at votes alone.
    """

    steps: tuple[str, ...]
    n_prior: int

    def advantage(self, features: npt.NDArray[np.float64], drawn: int) -> npt.NDArray[np.float64]:
        """(n,) value of stopping over going on after `drawn` samples, for (n, 5 + n_prior) rows; infinite at the end."""
        if drawn > len(self.steps):
            return np.full(len(features), np.inf)
        booster = self._boosters[drawn - 1]
        return np.full(len(features), -np.inf) if booster is None else np.asarray(booster.predict(features, num_threads=1))

    def rule(self, prior: Sequence[float]) -> PriorRule:
        """The rule for one query, whose prior it knows.

        Raises:
            ValueError: the prior has another length than the rule was fitted with.
        """
        if len(prior) != self.n_prior:
            raise ValueError(f"the stop rule was fitted with a prior of {self.n_prior} numbers, here are {len(prior)}: refit it")
        return PriorRule(self, tuple(prior))

    @cached_property
    def _boosters(self) -> tuple[lightgbm.Booster | None, ...]:
        import lightgbm

        try:
            return tuple(lightgbm.Booster(model_str=text) if text else None for text in self.steps)
        except lightgbm.basic.LightGBMError as error:
            raise BundleError(f"a stop rule's booster does not parse ({error}): fit it again") from error


@dataclass(frozen=True)
class PriorRule(Rule):
    """A learned rule with the prior of the query at hand; composes with the other rules."""

    policy: LearnedStop
    prior: tuple[float, ...]

    def __call__(self, evidence: Evidence) -> str | None:
        """Stop where the model says that going on is not worth its price."""
        drawn = len(evidence.candidates)
        if drawn == 0:
            return None
        row = np.array([[*vote_features(evidence.candidates), *self.prior]], dtype=np.float64)
        return str(self) if self.policy.advantage(row, drawn)[0] >= 0 else None

    def __str__(self) -> str:
        return "learned"


def vote_features(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """The `VOTE_FEATURES` of candidates: votes of leader and runner-up, parsed, different answers, newest votes that agree."""
    votes = count_votes(candidates)
    answers = [candidate.answer for candidate in in_order(candidates) if candidate.answer is not None]
    streak = next((at for at, answer in enumerate(reversed(answers)) if answer != answers[-1]), len(answers))
    return votes.v1, votes.v2, votes.counted, votes.distinct, streak
