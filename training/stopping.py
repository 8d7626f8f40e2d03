"""Fitting the learned stop rule: optimal stopping by regression, backwards over replayed runs.

Stopping after n samples is worth what the leading answer is expected to be worth; going on costs a price a sample and is
worth what the later decisions bring. From the last look backwards, the difference of the two is regressed on the votes
and the prior, and its sign decides. Hopeless queries stop early like easy ones: going on changes nothing there. A rule is
only taken where, on runs it was not fitted on, it is no worse than the published rule with as many samples.
Source: Longstaff and Schwartz 2001 (least-squares Monte Carlo).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.policies.learned_stop import VOTE_FEATURES
from rheostat.router.stopping import N_LEADS, StopPolicy, lead_of, terms
from rheostat.training.outcomes import Array
from rheostat.training.trajectories import Trajectories

Rows = npt.NDArray[np.intp]
Stops = npt.NDArray[np.bool_]

# Of the weights of terms scaled to one: the runs are many, but far fewer are the questions that they come from.
RIDGE_SHARE = 0.05  # of the runs
CHECK_SHARE = 0.3
LEADS = (0, 1, 2, 3, 4, 6)  # 0 stops at the first look: what a rule with as few samples is held against


@dataclass(frozen=True, slots=True)
class Watched:
    """Replayed runs and what is known beforehand.

    Attributes:
        runs: r runs of K samples.
        prior: (r, m) of each run's query; m may be 0.
        query: (r,) number of the run's query: runs of one query are never on both sides of a check.
    """

    runs: Trajectories
    prior: Array
    query: Rows

    def rows(self, index: Rows | npt.NDArray[np.bool_]) -> Watched:
        """The runs at `index`."""
        return Watched(self.runs.rows(index), self.prior[index], self.query[index])

    @property
    def informed(self) -> bool:
        """Whether anything but votes is known."""
        return bool(self.prior.shape[1]) or bool(self.runs.leader_score.any())

    @property
    def blind(self) -> Watched:
        """The same runs, nothing known but votes: no prior, and not what the answers say."""
        nothing = np.zeros_like(self.runs.leader_score)
        return Watched(replace(self.runs, leader_score=nothing, rival_score=nothing), self.prior[:, :0], self.query)


class Spent(NamedTuple):
    """Mean samples and mean reward of a rule."""

    samples: float
    reward: float


class StopFit:
    """Stop policies for any price from the same runs: what does not depend on the price is computed once.

    Args:
        runs: replayed runs, r of K samples.
        prior: (r, m) what is known of each run's query beforehand; m may be 0.
        looks: after how many samples a policy may stop, ascending, the last being K; after each when empty.
    """

    def __init__(self, runs: Trajectories, prior: Array, *, looks: Sequence[int] = ()) -> None:
        self._runs, self._n_prior = runs, prior.shape[1]
        self._looks = looks or range(1, runs.depth + 1)
        self._regressions = {drawn: _Regression(state_rows(runs, prior, drawn), drawn) for drawn in self._looks[:-1]}

    def policy(self, price: float) -> StopPolicy:
        """The stop policy that maximises reward - price x samples, for a price of at least 0."""
        expected = self._runs.expected
        steps: list[Array | None] = [None] * (self._runs.depth - 1)
        onward, later = expected[:, -1], self._runs.depth
        for drawn in reversed(self._looks[:-1]):
            onward = onward - price * (later - drawn)
            now, regression = expected[:, drawn - 1], self._regressions[drawn]
            weights = regression.solve(now - onward)
            steps[drawn - 1] = weights
            onward, later = np.where(regression.value(weights) >= 0, now, onward), drawn
        return StopPolicy(tuple(steps), self._n_prior)


class _Regression:
    """Ridge regression on the terms of one look, with weights for each lead that are shrunk to those of all leads.

    The terms t of a row with lead l predict t (w + w_l), where w and all w_l are penalised.
    """

    def __init__(self, rows: Array, drawn: int) -> None:
        lead = lead_of(rows)
        self._order = np.argsort(lead, kind="stable")
        ends = np.searchsorted(lead[self._order], np.arange(N_LEADS + 1))
        self._of_lead = [slice(start, end) for start, end in pairwise(ends)]
        found = terms(rows[self._order], drawn)
        spread = found.std(axis=0)
        self._scale = np.where(spread > 1e-9, spread, 1.0)
        self._terms = (found / self._scale).astype(np.float32)
        self._inverse = np.linalg.inv(self._normal())

    def solve(self, target: Array) -> Array:
        """(N_LEADS, m) weights for (r,) differences."""
        wanted = target[self._order].astype(np.float32)
        by_lead = [self._terms[rows].T @ wanted[rows] for rows in self._of_lead]
        found = (self._inverse @ np.concatenate([np.sum(by_lead, axis=0), *by_lead])).reshape(N_LEADS + 1, -1)
        return np.asarray((found[0] + found[1:]) / self._scale)

    def value(self, weights: Array) -> Array:
        """(r,) what the weights predict."""
        predicted = np.empty(len(self._order))
        for rows, mine in zip(self._of_lead, weights * self._scale, strict=True):
            predicted[self._order[rows]] = self._terms[rows] @ mine.astype(np.float32)
        return predicted

    def _normal(self) -> Array:
        """The normal equations' matrix, first the weights of all leads, then each lead's own."""
        grams = [np.asarray(self._terms[rows].T @ self._terms[rows], dtype=np.float64) for rows in self._of_lead]
        m = self._terms.shape[1]
        whole = np.zeros(((N_LEADS + 1) * m, (N_LEADS + 1) * m))
        whole[:m, :m] = np.sum(grams, axis=0)
        for lead, gram in enumerate(grams, start=1):
            own = slice(lead * m, (lead + 1) * m)
            whole[own, own] = whole[:m, own] = whole[own, :m] = gram
        penalty = np.full(len(whole), RIDGE_SHARE * len(self._terms))
        penalty[0] = 1e-6  # the mean difference is free
        return np.asarray(whole + np.diag(penalty))


def fit_stopping(runs: Trajectories, prior: Array, *, price: float, looks: Sequence[int] = ()) -> StopPolicy:
    """The stop policy for one price; see `StopFit`."""
    return StopFit(runs, prior, looks=looks).policy(price)


class CheckedFit:
    """Stop policies for any price that keep up with the published rule on queries they have not seen.

    Args:
        data: replayed runs.
        looks: after how many samples a rule may stop; after each when empty.
        seed: of the check's split.
    """

    def __init__(self, data: Watched, *, looks: Sequence[int] = (), seed: int = 0) -> None:
        self._looks = looks
        inside = _drawn_queries(data.query, seed)
        self._candidates = [_Candidate(each, inside, looks) for each in ([data.blind, data] if data.informed else [data])]

    def policy(self, price: float) -> StopPolicy | None:
        """The policy from votes alone, unless one that knows more is worth more; None where neither keeps up."""
        worth = [(candidate.worth(price), candidate) for candidate in self._candidates]
        kept = [(value, candidate) for value, candidate in worth if value is not None]
        return max(kept, key=lambda entry: entry[0])[1].whole.policy(price) if kept else None


class _Candidate:
    """A fit on a part of the queries, judged on the others, and the same fit on all of them."""

    def __init__(self, data: Watched, inside: npt.NDArray[np.bool_], looks: Sequence[int]) -> None:
        fitting, self._held = data.rows(~inside), data.rows(inside)
        self._looks = looks
        self._part = StopFit(fitting.runs, fitting.prior, looks=looks)
        self.whole = StopFit(data.runs, data.prior, looks=looks)

    def worth(self, price: float) -> float | None:
        """Reward less the price of samples on the queries held out; None below the published rule."""
        runs = self._held.runs
        found = spent(runs, learned_stops(self._part.policy(price), runs, self._held.prior))
        return found.reward - price * found.samples if keeps_up(found, runs, self._looks) else None


def fit_checked(data: Watched, *, price: float, looks: Sequence[int] = (), seed: int = 0) -> StopPolicy | None:
    """The checked stop policy for one price; see `CheckedFit`."""
    return CheckedFit(data, looks=looks, seed=seed).policy(price)


def keeps_up(rule: Spent, runs: Trajectories, looks: Sequence[int] = ()) -> bool:
    """Whether a rule's reward is no less than that of lead(m), mixed over m, with as many samples on the same runs."""
    leads = [spent(runs, lead_stops(runs, lead, looks)) for lead in LEADS]
    return rule.reward >= float(np.interp(rule.samples, [lead.samples for lead in leads], [lead.reward for lead in leads]))


def lead_stops(runs: Trajectories, lead: int, looks: Sequence[int] = ()) -> Stops:
    """(r, K) where a leader is `lead` votes ahead, at the looks only, and at the end."""
    stops = runs.first - runs.second >= lead
    if looks:
        stops &= np.isin(np.arange(1, runs.depth + 1), looks)
    stops[:, -1] = True
    return np.asarray(stops)


def learned_stops(policy: StopPolicy, runs: Trajectories, prior: Array) -> Stops:
    """(r, K) where the policy stops: from there on true, so that only runs still going need to be weighed."""
    stops = np.zeros(runs.value.shape, dtype=bool)
    going = np.arange(len(runs))
    for drawn in range(1, runs.depth + 1):
        ended = policy.advantage(state_rows(runs, prior, drawn)[going], drawn) >= 0
        stops[going[ended], drawn - 1 :] = True
        going = going[~ended]
    return stops


def spent(runs: Trajectories, stops: Stops) -> Spent:
    """What stopping at the first true column of (r, K) `stops` costs and brings on average."""
    at = stops.argmax(axis=1)
    return Spent(float(at.mean()) + 1, float(runs.value[np.arange(len(runs)), at].mean()))


def state_rows(runs: Trajectories, prior: Array, drawn: int) -> Array:
    """(r, N_VOTES + m) rows for `StopPolicy.advantage` after `drawn` samples."""
    votes = [getattr(runs, name)[:, drawn - 1] for name in VOTE_FEATURES]
    return np.column_stack([*votes, prior]).astype(np.float64)


def _drawn_queries(query: Rows, seed: int) -> npt.NDArray[np.bool_]:
    """(r,) which runs are of the queries kept for the check."""
    names, where = np.unique(query, return_inverse=True)
    chance = np.random.default_rng(seed).permutation(len(names)) < max(1, round(CHECK_SHARE * len(names)))
    return np.asarray(chance[where.reshape(-1)])
