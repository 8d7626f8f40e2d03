"""Runs of samples, drawn one at a time: the votes after each, what stop rules look at, and what stopping there would give.

Votes follow `policies.evidence`: counted in order of submission, ties to the earlier answer, unparsed samples drawn but
never counted. How likely answers are, and what they say for themselves, follows `policies.learned_stop`. All runs
advance together, a sample at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.policies.learned_stop import NO_SCORE
from rheostat.training.outcomes import Array

Codes = npt.NDArray[np.int16]
Counts = npt.NDArray[np.int16]
_NEVER = 1 << 14


@dataclass(frozen=True, slots=True)
class Trajectories:
    """`r` runs of K samples; column n - 1 is the state after n samples. All arrays are (r, K) unless said otherwise.

    Attributes:
        first, second: votes of the leader and of the runner-up.
        counted, distinct: parsed samples, different answers.
        streak: how many of the newest votes agree.
        rank: which distinct leader the present one is, 0 before any vote.
        first_since, second_since: votes of the leader and of its best rival cast after the leader first took the lead.
        logprob, leader_logprob: mean log-probability of the parsed samples and of the leader's, 0 where none is known.
        leader_score, rival_score: what the leader's and the runner-up's answers say for themselves; all 0 where answers were
            not scored.
        ranked: (r, K, A) all votes, most first.
        value: reward of the leader's answer, 0 before any vote.
        expected: what that reward is expected to be, for fitting; `value` where nothing else is known.
    """

    first: Counts
    second: Counts
    counted: Counts
    distinct: Counts
    streak: Counts
    rank: Counts
    first_since: Counts
    second_since: Counts
    logprob: Array
    leader_logprob: Array
    leader_score: Array
    rival_score: Array
    ranked: Counts
    value: Array
    expected: Array

    def __len__(self) -> int:
        return len(self.value)

    @property
    def depth(self) -> int:
        """K."""
        return int(self.value.shape[1])

    def rows(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Trajectories:
        """The runs at `index`."""
        return Trajectories(*(getattr(self, field.name)[index] for field in fields(self)))


def random_orders(count: npt.NDArray[np.intp], width: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """(r, width) sample numbers of each run in random order, those that its (r,) count of samples does not reach last."""
    chance = rng.random((len(count), width))
    chance[np.arange(width) >= count[:, None]] = 2.0
    return chance.argsort(axis=1)


def trajectories(
    codes: Codes, rewards: Array, logprobs: Array | None = None, *, scores: Array | None = None, expected: Array | None = None
) -> Trajectories:
    """Follow every run.

    Args:
        codes: (r, K) answer numbers below A in order of submission, -1 where unparsed.
        rewards: (r, A) in [0, 1], what each answer of a run's query is worth.
        logprobs: (r, K) mean log-probability of each sample, not finite where unknown; all unknown when None.
        scores: (r, A) log-odds that an answer is right, from what it says; unknown when None.
        expected: (r, A) what an answer is expected to be worth; its reward when None.
    """
    runs = _Runs.empty(len(codes), rewards.shape[1])
    given = np.full(codes.shape, np.nan) if logprobs is None else logprobs
    known = _Known(rewards, rewards if expected is None else expected, scores)
    states = []
    for column, likely in zip(codes.T, given.T, strict=True):
        runs.add(column, likely)
        states.append(runs.state(known))
    return Trajectories(*(np.stack(parts, axis=1) for parts in zip(*states, strict=True)))


class _Known(NamedTuple):
    """What is known of every answer, each (r, A)."""

    rewards: Array
    expected: Array
    scores: Array | None

    def score(self, answer: npt.NDArray[np.intp]) -> Array:
        """(r,) the scores of the answers in (r,) `answer`, -1 being none."""
        return np.zeros(len(answer)) if self.scores is None else _taken(self.scores, answer, NO_SCORE)


@dataclass(slots=True)
class _Runs:
    """Votes of all runs so far.

    `at_lead[i, a]` holds the votes of run i at the moment answer a first took the lead, `rank[i, a]` as which leader;
    `likely[i, a]` the sum of the log-probabilities known of its samples, `known[i, a]` their number.
    """

    votes: Counts
    seen_at: Counts
    rank: Counts
    at_lead: Counts
    leader: npt.NDArray[np.intp]
    newest: npt.NDArray[np.intp]
    streak: Counts
    likely: Array
    known: Counts
    drawn: int = 0

    @classmethod
    def empty(cls, r: int, n_answers: int) -> _Runs:
        votes = np.zeros((r, n_answers), dtype=np.int16)
        none = np.full(r, -1, dtype=np.intp)
        at_lead = np.zeros((r, n_answers, n_answers), dtype=np.int16)
        streak, likely = np.zeros(r, dtype=np.int16), np.zeros((r, n_answers))
        return cls(votes, np.full_like(votes, _NEVER), votes.copy(), at_lead, none, none.copy(), streak, likely, votes.copy())

    def add(self, column: npt.NDArray[np.int16], logprob: Array) -> None:
        """Count one more sample of every run."""
        voted = np.flatnonzero(column >= 0)
        answer = column[voted].astype(np.intp)
        self.votes[voted, answer] += 1
        known = np.isfinite(logprob[voted])
        self.likely[voted[known], answer[known]] += logprob[voted][known]
        self.known[voted[known], answer[known]] += 1
        self.seen_at[voted, answer] = np.minimum(self.seen_at[voted, answer], self.drawn)
        self.streak[voted] = np.where(self.newest[voted] == answer, self.streak[voted] + 1, 1)
        self.newest[voted] = answer
        # More votes win, then the earlier appearance; `drawn` never reaches _NEVER.
        self.leader[voted] = (self.votes[voted].astype(np.int64) * _NEVER - self.seen_at[voted]).argmax(axis=1)
        self._crown(voted[self.rank[voted, self.leader[voted]] == 0])
        self.drawn += 1

    def _crown(self, runs: npt.NDArray[np.intp]) -> None:
        """Note new leaders."""
        leader = self.leader[runs]
        self.rank[runs, leader] = self.rank[runs].max(axis=1, initial=0) + 1
        self.at_lead[runs, leader] = self.votes[runs]

    def state(self, known: _Known) -> tuple[npt.NDArray[np.number], ...]:
        """The fields of `Trajectories` after the newest sample."""
        every = np.arange(len(self.votes))
        leader = np.maximum(self.leader, 0)
        ranked = -np.sort(-self.votes, axis=1)
        second = ranked[:, 1] if ranked.shape[1] > 1 else np.zeros_like(ranked[:, 0])
        since = self.votes - self.at_lead[every, leader]
        first_since = since[every, leader].copy()
        since[every, leader] = 0
        return (
            ranked[:, 0],
            second,
            self.votes.sum(axis=1, dtype=np.int16),
            (self.votes > 0).sum(axis=1, dtype=np.int16),
            self.streak.copy(),
            self.rank[every, leader],
            first_since,
            since.max(axis=1),
            _mean(self.likely.sum(axis=1), self.known.sum(axis=1)),
            _mean(self.likely[every, leader], self.known[every, leader]),
            known.score(self.leader),
            known.score(self._rival()),
            ranked,
            _taken(known.rewards, self.leader, 0.0),
            _taken(known.expected, self.leader, 0.0),
        )

    def _rival(self) -> npt.NDArray[np.intp]:
        """(r,) the best of the other answers, the earlier of equals; -1 where there is none."""
        standing = self.votes.astype(np.int64) * _NEVER - self.seen_at
        led = np.flatnonzero(self.leader >= 0)
        standing[led, self.leader[led]] = -_NEVER
        rival = standing.argmax(axis=1)
        # One vote outweighs any lateness, so that only answers without votes stand at or below zero.
        return np.where(standing.max(axis=1) > 0, rival, -1)


def _taken(values: Array, answer: npt.NDArray[np.intp], otherwise: float) -> Array:
    """(r,) the value of each run's answer in (r, A) `values`."""
    return np.where(answer >= 0, values[np.arange(len(answer)), np.maximum(answer, 0)], otherwise)


def _mean(total: Array, count: npt.NDArray[np.integer]) -> Array:
    """Totals over counts, 0 where the count is."""
    return np.asarray(total / np.maximum(count, 1))
