"""Fitting the sequential policy on logged answers by fitted value iteration over all prices of accuracy at once.

A log that knows every action's answer on a query knows what any order of actions would have shown. From states drawn at
random and from runs of the policy so far, every next action is tried on the log, the value of where it leads is taken
from the networks of the iteration before, and the gain network is fitted to what that adds. The price of accuracy is an
input, so that one network serves every multiplier. Priors must be cross-fitted: the policy must meet predictions as
good as those on new queries, not better.
Sources: Longstaff and Schwartz 2001 (regression for optimal stopping); Ernst et al. 2005 (fitted Q iteration).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rheostat.router.base import Array
from rheostat.router.sequential import Codes, Mask, Network, Rows, SequentialPolicy, alone, judge_rows, prior_rows, with_price
from rheostat.training.curves import Spend
from rheostat.training.embeddings import unheard
from rheostat.training.networks import Fitting, averaged

WORTH = (0.04, 64.0)  # prices of accuracy, in mean costs of the best fixed action: from the cheapest answer to the surest
SETTINGS = 40
CHEAP_FIRST = 0.4  # states of cheap actions are met most: an action is drawn with weight cost^-0.4
EXPLORED = 0.15


@dataclass(frozen=True, slots=True)
class Plan:
    """How much work the fit is given; `members` networks of each kind are averaged."""

    depth: int = 10
    members: int = 2
    iterations: int = 8
    judge_epochs: int = 10
    epochs: int = 2
    states_per_query: int = 2
    tried: int = 8
    judge_width: int = 96
    gain_widths: tuple[int, int] = (96, 64)


class Episodes(NamedTuple):
    """Queries with every action's answer; all are (n, a).

    Attributes:
        prior: from `prior_rows`.
        answers: answer numbers, -1 where none.
        reward: of each action's answer.
        expected: predicted cost, which decides.
        cost: what was really paid.
    """

    prior: Rows
    answers: Codes
    reward: Array
    expected: Array
    cost: Array

    @classmethod
    def of(cls, p_correct: Array, answers: Codes, reward: Array, expected: Array, cost: Array) -> Episodes:
        """From the predictor's P(correct)."""
        return cls(prior_rows(p_correct), answers, reward, expected, cost)


class States(NamedTuple):
    """Positions to learn from: the (m,) query, what was run there (m, a), and the (m,) price of accuracy."""

    query: np.ndarray[tuple[int, ...], np.dtype[np.intp]]
    run: Mask
    worth: Array


def fit_sequential(
    train: Episodes, *, scale: float, plan: Plan | None = None, seed: int = 0, on_progress: Callable[[float], None] = unheard
) -> SequentialPolicy:
    """Fit the judge, then the gains by value iteration.

    Args:
        train: n queries.
        scale: the best fixed action's mean cost, the unit of prices.
        plan: how much work; the default when None.
        seed: of everything random.
        on_progress: told the share done.
    """
    plan = plan or Plan()
    rng = np.random.default_rng(seed)
    judge = fit_judge(train, plan, rng, seed)
    a = train.reward.shape[1]
    policy = SequentialPolicy(judge, _no_gain(5 * a + 6, a), scale, plan.depth)
    fittings = [Fitting((5 * a + 6, *plan.gain_widths, a), seed=plan.members * (seed + 1) + number) for number in range(plan.members)]
    for iteration in range(plan.iterations):
        states = _random_states(train, plan, rng)
        if iteration:
            states = _joined(states, _visited(policy, train, rng))
        rows, target, known = _targets(policy, train, states, plan.tried, rng)
        for fitting in fittings * plan.epochs:
            fitting.epoch(rows, target, known, rate=1.5e-3 * (1 - 0.8 * iteration / plan.iterations))
        policy = SequentialPolicy(judge, averaged([fitting.network for fitting in fittings]), scale, plan.depth)
        on_progress((iteration + 1) / plan.iterations)
    return policy


def fit_judge(train: Episodes, plan: Plan, rng: np.random.Generator, seed: int) -> Network:
    """The chance that an answer is right, from random sets of actions run."""
    a = train.reward.shape[1]
    fittings = [
        Fitting((4 * a + 3, plan.judge_width, 1), seed=plan.members * seed + number, dropout=0.1, decay=0.05)
        for number in range(plan.members)
    ]
    queries = np.tile(np.arange(len(train.reward)), 3)
    for epoch in range(plan.judge_epochs):
        run = _draw(train, len(queries), plan.depth, rng)
        index, action, rows = judge_rows(train.prior[queries], train.answers[queries], run)
        right = train.reward[queries[index], action][:, None]
        rate = 1e-3 * (1 + np.cos(np.pi * epoch / plan.judge_epochs))
        for fitting in fittings:
            fitting.epoch(rows, right, np.ones_like(right), rate=rate, logistic=True)
    return averaged([fitting.network for fitting in fittings])


def spend_along(policy: SequentialPolicy, test: Episodes, worths: Array | None = None) -> Spend:
    """What the policy spends and reaches on each query at each price of accuracy, on the log."""
    worths = np.geomspace(*WORTH, SETTINGS) if worths is None else worths
    ended = [_run(policy, test, float(worth)) for worth in worths]
    return Spend(np.stack([reward for reward, _ in ended], axis=1), np.stack([cost for _, cost in ended], axis=1))


def _run(policy: SequentialPolicy, test: Episodes, worth: float) -> tuple[Array, Array]:
    n, a = test.reward.shape
    run, live = np.zeros((n, a), dtype=bool), np.arange(n)
    for step in range(policy.depth):
        net = _net_gains(policy, test, States(live, run[live], np.full(len(live), worth)))
        on = (net.max(axis=1) > 0) | (step == 0)
        live, chosen = live[on], net[on].argmax(axis=1)
        run[live, chosen] = True
    known = policy.beliefs(test.prior, test.answers, run)
    reward = np.where(known.p_correct > 0, test.reward[np.arange(n), known.leader], 0.0)
    return reward, (test.cost * run).sum(axis=1)


def _net_gains(policy: SequentialPolicy, data: Episodes, states: States) -> Array:
    known = policy.beliefs(data.prior[states.query], data.answers[states.query], states.run)
    return policy.net_gains(known.state, states.run, data.expected[states.query], states.worth * policy.scale)


def _targets(policy: SequentialPolicy, data: Episodes, states: States, tried: int, rng: np.random.Generator) -> tuple[Rows, Array, Array]:
    """Rows of the states, and for some actions what running them added to the value of stopping there."""
    query, run, worth = states
    here = policy.beliefs(data.prior[query], data.answers[query], run)
    target, known = -alone(here.state, run).astype(float), np.zeros(run.shape)
    each = np.arange(len(query))
    order = np.where(run, 2.0, rng.random(run.shape)).argsort(axis=1)
    for action in order[:, :tried].T:
        after = run.copy()
        after[each, action] = True
        target[each, action] += _value(policy, data, States(query, after, worth)) - here.p_correct
        known[each, action] = ~run[each, action]
    return with_price(here.state, worth), target, known


def _value(policy: SequentialPolicy, data: Episodes, states: States) -> Array:
    """(m,) expected accuracy less priced cost, to come, of the better of stopping and going on."""
    known = policy.beliefs(data.prior[states.query], data.answers[states.query], states.run)
    net = policy.net_gains(known.state, states.run, data.expected[states.query], states.worth * policy.scale)
    return np.asarray(known.p_correct + np.maximum(net.max(axis=1), 0.0))


def _random_states(train: Episodes, plan: Plan, rng: np.random.Generator) -> States:
    query = np.tile(np.arange(len(train.reward)), plan.states_per_query)
    return States(query, _draw(train, len(query), plan.depth - 1, rng), _worths(len(query), rng))


def _visited(policy: SequentialPolicy, train: Episodes, rng: np.random.Generator) -> States:
    """Where the policy itself gets to, now and then led astray."""
    n, a = train.reward.shape
    worth, run, live = _worths(n, rng), np.zeros((n, a), dtype=bool), np.arange(n)
    seen = []
    for step in range(policy.depth - 1):
        net = _net_gains(policy, train, States(live, run[live], worth[live]))
        astray = rng.random(len(live)) < EXPLORED
        chosen = np.where(astray, np.where(run[live], -1.0, rng.random(net.shape)).argmax(axis=1), net.argmax(axis=1))
        on = (net.max(axis=1) > 0) | astray | (step == 0)
        live, chosen = live[on], chosen[on]
        run[live, chosen] = True
        seen.append(States(live, run[live], worth[live]))
    return _joined(*seen)


def _joined(*parts: States) -> States:
    return States(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _draw(train: Episodes, n: int, most: int, rng: np.random.Generator) -> Mask:
    """(n, a) random sets of up to `most` actions, cheap ones more often (Efraimidis and Spirakis 2006)."""
    weight = np.maximum(train.cost.mean(axis=0), 1e-12) ** -CHEAP_FIRST
    keys = rng.random((n, train.reward.shape[1])) ** (1 / weight)
    rank = np.argsort(np.argsort(-keys, axis=1), axis=1)
    return np.asarray(rank < rng.integers(0, most + 1, size=(n, 1)))


def _worths(n: int, rng: np.random.Generator) -> Array:
    low, high = WORTH
    return np.asarray(low * (high / low) ** rng.random(n))


def _no_gain(size: int, a: int) -> Network:
    return Network((np.zeros((size, a), dtype=np.float32),), (np.zeros(a, dtype=np.float32),))
