"""Which action to run next, given the answers so far, and when to stop: the sequential policy, inference only.

Actions may come in any order, each at most once. Two small networks carry it: a judge gives the chance that an answer is
right from which actions gave it, which gave another, and the predictor's priors; a gain network gives, for every action
not yet run, how much further accuracy is to be expected from running it and then going on as this policy does. The rule
runs the action whose gain exceeds its priced cost most, and stops with the likeliest answer when none does. Knows
neither what the answers say nor how the networks were fitted; equal answers share a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array
from rheostat.router.calibration import logit, sigmoid

Codes = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.float32]

NO_ANSWER = -1
NO_LEADER = -4.0
PRIOR_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Network:
    """A ReLU network: `weights[i]` is (in, out), `biases[i]` is (out,)."""

    weights: tuple[Rows, ...]
    biases: tuple[Rows, ...]

    def __call__(self, rows: Rows) -> Rows:
        """(n, out) values of (n, in) rows."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            rows = np.maximum(rows @ weight + bias, np.float32(0))
        return rows @ self.weights[-1] + self.biases[-1]


class Beliefs(NamedTuple):
    """What is known after some actions were run, of n queries.

    Attributes:
        p_correct: (n,) chance that the leading answer is right, 0 where there is none.
        leader: (n,) an action that gave it; meaningless where there is none.
        state: (n, s) rows for the gain network, without the price.
    """

    p_correct: Array
    leader: npt.NDArray[np.intp]
    state: Rows


class Step(NamedTuple):
    """What to do now: run `action`, or stop when it is None; `leader` is an action with the answer to give, if any did."""

    action: int | None
    leader: int | None
    p_correct: float


@dataclass(frozen=True, slots=True)
class SequentialPolicy:
    """The two networks and what they were fitted for.

    Attributes:
        judge: rows of `judge_rows` to one logit.
        gain: state and price to (a,) gains in accuracy, beyond what `alone` gives.
        scale: cost that a price of accuracy is measured in; the best fixed action's mean.
        depth: most actions run on one query.
    """

    judge: Network
    gain: Network
    scale: float
    depth: int

    def beliefs(self, prior: Rows, answers: Codes, run: Mask) -> Beliefs:
        """What (n, a) answers say where (n, a) `run`, on top of (n, a) prior rows from `prior_rows`."""
        return beliefs(self.judge, prior, answers, run)

    def net_gains(self, state: Rows, run: Mask, cost: Array, multiplier: Array) -> Array:
        """(n, a) gain less priced cost of every action; -inf where it was run, or the depth is reached.

        Args:
            state: from `beliefs`.
            run: (n, a) what was run.
            cost: (n, a) expected cost.
            multiplier: (n,) cost worth paying for one unit of accuracy.
        """
        gains = np.maximum(self.gain(with_price(state, multiplier / self.scale)) + alone(state, run), np.float32(0))
        barred = run | (run.sum(axis=1) >= self.depth)[:, None]
        return np.where(barred, -np.inf, gains - cost / multiplier[:, None])

    def step(self, prior: Rows, answers: Codes, run: Mask, cost: Array, *, multiplier: float) -> Step:
        """The next step on one query; something is always run first.

        Args:
            prior: (a,) from `prior_rows`.
            answers: (a,) answer numbers, `NO_ANSWER` where none was read; ignored where not run.
            run: (a,) what was run.
            cost: (a,) expected cost.
            multiplier: cost worth paying for one unit of accuracy.
        """
        known = self.beliefs(prior[None], answers[None], run[None])
        net = self.net_gains(known.state, run[None], cost[None], np.array([multiplier]))[0]
        best, p = int(net.argmax()), float(known.p_correct[0])
        goes_on = net[best] > 0 or not run.any()
        return Step(best if goes_on else None, int(known.leader[0]) if p > 0 else None, p)


def prior_rows(p_correct: Array) -> Rows:
    """The networks' view of the predictor's (n, a) or (a,) P(correct): halved logits."""
    return np.asarray(np.clip(logit(p_correct), -PRIOR_LIMIT, PRIOR_LIMIT) / 2, dtype=np.float32)


def judge_rows(prior: Rows, answers: Codes, run: Mask) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Rows]:
    """One row for each different answer of each query.

    Returns:
        The query and the first action that gave each answer, and its row: the priors; which actions gave the answer,
        which another and which none; how many gave it, how many different ones there are, and the most for another.
    """
    n, a = run.shape
    voted = run & (answers >= 0)
    # What gave no answer gets a number of its own, so that it equals nothing else.
    key = np.where(voted, answers, -2 - np.arange(a, dtype=np.int16))
    same = key[:, :, None] == key[:, None, :]
    query, action = np.nonzero(voted & (same.argmax(axis=2) == np.arange(a)))
    inside = same[query, action]
    against = voted[query] & ~inside
    votes = np.zeros((n, a), dtype=np.float32)
    votes[query, action] = inside.sum(axis=1)
    rows = np.empty((len(query), 4 * a + 3), dtype=np.float32)
    rows[:, :a], rows[:, a : 2 * a], rows[:, 2 * a : 3 * a] = prior[query], inside, against
    rows[:, 3 * a : 4 * a] = (run & ~voted)[query]
    rows[:, 4 * a] = votes[query, action] / 4
    rows[:, 4 * a + 1] = (votes > 0).sum(axis=1)[query] / 4
    rows[:, 4 * a + 2] = (votes[query] * against).max(axis=1, initial=0) / 4
    return query, action, rows


def beliefs(judge: Network, prior: Rows, answers: Codes, run: Mask) -> Beliefs:
    """The leading answer by the judge, and the state that the gain network reads."""
    n, a = run.shape
    query, action, rows = judge_rows(prior, answers, run)
    logits = np.full((n, a), -np.inf, dtype=np.float32)
    if len(rows):
        logits[query, action] = judge(rows)[:, 0]
    each = np.arange(n)
    leader, top = _largest(logits, each)
    logits[each, leader] = -np.inf
    second, next_top = _largest(logits, each)
    led, contested = np.isfinite(top), np.isfinite(next_top)
    voted = run & (answers >= 0)
    leading = voted & (answers == answers[each, leader][:, None]) & led[:, None]
    trailing = voted & (answers == answers[each, second][:, None]) & contested[:, None]
    top = np.where(led, top, NO_LEADER)
    state = np.empty((n, 5 * a + 5), dtype=np.float32)
    state[:, :a], state[:, a : 2 * a], state[:, 2 * a : 3 * a] = prior, leading, trailing
    state[:, 3 * a : 4 * a] = voted & ~leading & ~trailing
    state[:, 4 * a : 5 * a] = run & ~voted
    state[:, 5 * a] = top / 2
    state[:, 5 * a + 1] = np.where(contested, next_top, 1.5 * NO_LEADER) / 2
    state[:, 5 * a + 2], state[:, 5 * a + 3] = led, contested
    state[:, 5 * a + 4] = run.sum(axis=1) / 4
    p_correct = np.where(led, sigmoid(top.astype(np.float64)), 0.0)
    return Beliefs(p_correct, leader, state)


def with_price(state: Rows, worth: Array) -> Rows:
    """(n, s + 1) states with the logarithm of the (n,) price of accuracy, in units of the policy's scale."""
    return np.concatenate([state, np.log(worth)[:, None] / 3], axis=1, dtype=np.float32)


def alone(state: Rows, run: Mask) -> Rows:
    """(n, a) what each action's answer is worth by its prior: before anything was run all there is to gain at once, then 0."""
    worth = np.zeros(run.shape, dtype=np.float32)
    fresh = ~run.any(axis=1)
    if fresh.any():
        worth[fresh] = 0.5 + 0.5 * np.tanh(state[fresh, : run.shape[1]])  # the state holds halved logits
    return worth


def _largest(values: Rows, each: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], Rows]:
    at = values.argmax(axis=1)
    return at, values[each, at]
