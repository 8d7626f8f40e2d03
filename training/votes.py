"""Votes replayed over permuted samples: what majority and the stop rules would have answered, and at what cost.

Votes are counted in submission order, ties go to the earlier answer, and unparsed samples do not vote: the semantics
of the strategies in `policies`, vectorised over queries and permutations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import ActionError
from rheostat.policies.base import Candidate, Evidence
from rheostat.policies.drawing import EARLY_WAVES, wave_sizes
from rheostat.policies.stopping import RULES, parse_rule

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int16]
ORDERS = 32
CHUNK = 512
_NEVER = 1 << 14
VOTE_RULES = frozenset({"fixed", "lead", "curtail", "beta"})

StopTables = Mapping[int, npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a run of at most k samples looks at its votes (`checks`, counts of samples) and where it stops early.

    `stops[drawn][v1, v2]` says whether the rule stops with those votes of leader and runner-up; None never does.
    """

    k: int
    checks: tuple[int, ...]
    stops: StopTables | None = None

    @classmethod
    def of(cls, k: int, *, stop: str = "", waves: tuple[int, ...] = EARLY_WAVES) -> Schedule:
        """The schedule of waves, the last of which repeats, under a stop rule as `policies` spells it.

        Raises:
            ActionError: the rule is unknown, or looks at more than the votes of leader and runner-up.
        """
        checks = tuple(accumulate(wave_sizes(k, waves)))
        return cls(k, checks, {drawn: stop_table(stop, drawn, k) for drawn in checks} if stop else None)


class Votes(NamedTuple):
    """Expectations over permutations, each (n,): reward, generated tokens, samples drawn and waves run."""

    reward: Array
    tokens: Array
    samples: Array
    waves: Array


def stop_table(spelling: str, drawn: int, k: int) -> npt.NDArray[np.bool_]:
    """(drawn + 1, drawn + 1) whether the rule stops at votes [v1, v2], asked of the rule that serving runs.

    Raises:
        ActionError: the rule is unknown, or looks at more than these votes.
    """
    rule = parse_rule(spelling)
    names = {name for name in RULES if re.search(rf"\b{name}\b", spelling)}
    if not names <= VOTE_RULES:
        raise ActionError(f"{spelling!r} depends on more than two answers' votes: replay knows {', '.join(sorted(VOTE_RULES))}")
    table = np.zeros((drawn + 1, drawn + 1), dtype=bool)
    for v1 in range(drawn + 1):
        for v2 in range(min(v1, drawn - v1) + 1):
            table[v1, v2] = rule(_evidence(v1, v2, drawn, k)) is not None
    return table


def _evidence(v1: int, v2: int, drawn: int, k: int) -> Evidence:
    answers = ["first"] * v1 + ["second"] * v2 + [None] * (drawn - v1 - v2)
    candidates = tuple(Candidate(index=at, model="", text="", answer=answer, tokens=0) for at, answer in enumerate(answers))
    return Evidence(candidates=candidates, chosen=0, why="", planned=k)


def replay_votes(codes: Counts, correct: Array, tokens: Array, count: npt.NDArray[np.intp], schedule: Schedule, *, seed: int = 0) -> Votes:
    """One schedule run over permuted samples of every query; see `replay_schedules`."""
    return replay_schedules(codes, correct, tokens, count, [schedule], seed=seed)[0]


def replay_schedules(
    codes: Counts, correct: Array, tokens: Array, count: npt.NDArray[np.intp], schedules: Sequence[Schedule], *, seed: int = 0
) -> list[Votes]:
    """Run schedules over the same permuted samples of every query.

    Args:
        codes: (n, K) answer numbers within the query, -1 where unparsed.
        correct: (n, K) in [0, 1].
        tokens: (n, K) generated tokens.
        count: (n,) samples present, first in each row; rows with fewer than a schedule's k give zeros.
        schedules: k, the checks and the stop rule of each.
        seed: of the permutations.

    Returns:
        For each schedule the expectations over random orders and all their rotations.
    """
    results = np.zeros((len(schedules), 4, len(codes)))
    for depth in np.unique(count):
        reached = [number for number, schedule in enumerate(schedules) if schedule.k <= depth]
        rows = np.flatnonzero(count == depth)
        orders = _orders(int(depth), seed) if reached else np.zeros((0, 0), dtype=np.intp)
        for start in range(0, len(rows) if reached else 0, CHUNK):
            part = rows[start : start + CHUNK]
            found = _run(codes[part], correct[part], tokens[part], orders, [schedules[number] for number in reached])
            for number, values in zip(reached, found, strict=True):
                results[number][:, part] = values
    return [Votes(*result) for result in results]


def _orders(depth: int, seed: int) -> npt.NDArray[np.intp]:
    """(rounds * depth, depth) orders: rotations of random ones, so each sample is equally often at each position."""
    rng = np.random.default_rng(seed)
    shifts = (np.arange(depth)[:, None] + np.arange(depth)) % depth
    return np.vstack([rng.permutation(depth)[shifts] for _ in range(max(1, ORDERS // depth))])


def _run(codes: Counts, correct: Array, tokens: Array, orders: npt.NDArray[np.intp], schedules: Sequence[Schedule]) -> list[Array]:
    """(4, n) expectations of one chunk for each schedule."""
    value = answer_rewards(codes, correct)
    prefix = orders[:, : max(schedule.k for schedule in schedules)]
    spent = np.cumsum(tokens[:, prefix], axis=2)
    tally = Tally.empty(len(codes), len(orders), value.shape[1])
    tracks = [_Track.of(schedule, spent.shape[:2]) for schedule in schedules]
    for position in range(prefix.shape[1]):
        tally.add(codes[:, prefix[:, position]], position)
        looking = [track for track in tracks if position + 1 in track.schedule.checks]
        if looking:
            reward = np.where(tally.leader >= 0, np.take_along_axis(value, np.maximum(tally.leader, 0).astype(np.intp), axis=1), 0.0)
        for track in looking:
            track.look(tally, position + 1, reward, spent[:, :, position])
    return [np.asarray(track.result.mean(axis=2)) for track in tracks]


@dataclass(slots=True)
class _Track:
    """A schedule on its way through (n, orders) runs: which still draw, and what the others ended with."""

    schedule: Schedule
    running: npt.NDArray[np.bool_]
    result: Array

    @classmethod
    def of(cls, schedule: Schedule, shape: tuple[int, ...]) -> _Track:
        return cls(schedule, np.ones(shape, dtype=bool), np.zeros((4, *shape)))

    def look(self, tally: Tally, drawn: int, reward: Array, spent: Array) -> None:
        """End the runs that stop after `drawn` samples."""
        ends = self.running & _stops(tally, self.schedule, drawn)
        wave = self.schedule.checks.index(drawn) + 1
        for slot, outcome in enumerate((reward, spent, np.array(float(drawn)), np.array(float(wave)))):
            self.result[slot] += ends * outcome
        self.running &= ~ends


def _stops(tally: Tally, schedule: Schedule, drawn: int) -> npt.NDArray[np.bool_]:
    if drawn == schedule.k or schedule.stops is None:
        return np.full(tally.first.shape, drawn == schedule.k)
    return schedule.stops[drawn][tally.first, tally.second]


def answer_rewards(codes: Counts, correct: Array) -> Array:
    """(n, answers) mean correctness of each distinct answer of a query, for (n, K) samples, -1 being unparsed."""
    width = int(codes.max(initial=0)) + 1
    rows, columns = np.nonzero(codes >= 0)
    total, seen = np.zeros((len(codes), width)), np.zeros((len(codes), width))
    np.add.at(total, (rows, codes[rows, columns]), correct[rows, columns])
    np.add.at(seen, (rows, codes[rows, columns]), 1.0)
    return np.asarray(total / np.maximum(seen, 1))


@dataclass(slots=True)
class Tally:
    """Running votes of (n, orders) runs: per-answer counts, the leader, its votes and the runner-up's."""

    votes: Counts
    seen_at: Counts
    leader: Counts
    first: Counts
    second: Counts

    @classmethod
    def empty(cls, n: int, n_orders: int, n_answers: int) -> Tally:
        """No votes yet."""
        votes = np.zeros((n * n_orders, n_answers), dtype=np.int16)
        blank = np.zeros((n, n_orders), dtype=np.int16)
        return cls(votes, np.full_like(votes, _NEVER), blank - 1, blank.copy(), blank.copy())

    def add(self, codes: npt.NDArray[np.int16], position: int) -> None:
        """Count one more sample of every run; only its answer's standing can change."""
        voted = np.flatnonzero(codes.ravel() >= 0)
        answer = codes.ravel()[voted]
        self.votes[voted, answer] += 1
        self.seen_at[voted, answer] = np.minimum(self.seen_at[voted, answer], position)
        leader, first, second = (part.reshape(-1) for part in (self.leader, self.first, self.second))
        mine, old = self.votes[voted, answer], leader[voted]
        led_since = np.where(old >= 0, self.seen_at[voted, np.maximum(old, 0)], _NEVER)
        was = old == answer
        tie = (mine == first[voted]) & (self.seen_at[voted, answer] < led_since)
        takes = ~was & ((mine > first[voted]) | tie)
        # The one who loses the lead had at least as many votes as everyone else.
        second[voted] = np.where(takes, first[voted], np.where(was, second[voted], np.maximum(second[voted], mine)))
        first[voted] = np.where(takes | was, mine, first[voted])
        leader[voted] = np.where(takes, answer, old)
