"""Votes with a learned stop rule: the rule fitted on the log's samples, the action labelled by replaying it.

So the router weighs such an action like any other, and its bundle carries the rule. The rule's prior is what the
predictor expects of one chain and of the full vote of the same model. Where no rule keeps up with the published one,
the action is replayed, as it is served, with that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action
from rheostat.policies.stopping import Learned, parse_rule
from rheostat.router.calibration import logit
from rheostat.router.stopping import StopModel, StopPolicy
from rheostat.training.answer_scores import answer_scores
from rheostat.training.expected_rewards import Answered, expected_rewards
from rheostat.training.learners import TrainingSet
from rheostat.training.outcomes import CELLS, Array, OutcomeTable, Rows
from rheostat.training.priors import honest_p
from rheostat.training.replay import VOTES, is_learned, schedule_of
from rheostat.training.sample_log import CHAIN, Sampled, SampleLog, needed
from rheostat.training.sampled_items import drawn_runs
from rheostat.training.stopping import Watched, fit_checked, lead_stops, learned_stops
from rheostat.training.trajectories import Trajectories, random_orders
from rheostat.training.votes import answer_rewards

ROUNDS = 8
MAX_RUNS = 24_000
PUBLISHED_LEAD = 2


def with_learned_stops(data: TrainingSet, log: SampleLog, train: Rows, *, seed: int) -> tuple[TrainingSet, dict[str, StopModel]]:
    """Fill in the outcomes of the actions whose stop rule is learned.

    Args:
        data: queries, those of the log first and in its order; learned actions have no weight there.
        log: the samples.
        train: rows whose outcomes may be learned from.
        seed: of the orders of samples, the check and the boosters.

    Returns:
        The data with those outcomes, and the rules by action; an action without one is served with the published rule.

    Raises:
        ActionError: a learned rule is joined with other rules, which replay does not know.
    """
    stops: dict[str, StopModel] = {}
    table = data.table
    for action in map(Action.parse, data.table.actions):
        if is_learned(action):
            fitted = _fit(action, data, log, train, seed)
            table = _filled(table, action, fitted)
            if fitted.model is not None:
                stops[str(action)] = fitted.model
    return replace(data, table=table), stops


def votes_only_rule(action: Action, log: SampleLog, *, seed: int = 0) -> StopPolicy | None:
    """The rule of one action from votes alone, where there is no router to tell a prior.

    Args:
        action: a vote whose stop rule is learned.
        log: with samples of the action's model.
        seed: of the orders of samples, the check and the boosters.

    Returns:
        The rule; None where none keeps up with the published one, which then is what the action is run with.

    Raises:
        ActionError: a learned rule is joined with other rules.
        DatasetError: the log has no samples of the model.
    """
    sampled, looks = log.sampler_of(action), schedule_of(action).checks
    rows = np.flatnonzero(sampled.count >= needed(action))
    drawn = _drawn(sampled, _answered(sampled, np.zeros((len(log), 0))), rows, rows, looks[-1], seed)
    watched = Watched(drawn.runs, np.zeros((len(drawn.row), 0)), drawn.row)
    return fit_checked(watched, price=_learned(action).price, looks=looks, seed=seed)


class _Fitted(NamedTuple):
    """A rule, None for the published one, and what it gives on `rows`."""

    model: StopModel | None
    rows: Rows
    cells: dict[str, Array]


class _Runs(NamedTuple):
    """Samples in random orders: the runs, (r,) the row of each, (r, K) tokens spent so far."""

    runs: Trajectories
    row: Rows
    tokens: Array


def _fit(action: Action, data: TrainingSet, log: SampleLog, train: Rows, seed: int) -> _Fitted:
    rule = _learned(action)
    sampled, looks = log.sampler_of(action), schedule_of(action).checks
    rows = np.flatnonzero(sampled.count >= needed(action))
    fitting = np.intersect1d(rows, train)
    priors = prior_positions(action, data.table.actions)
    prior = logit(honest_p(_only(data, priors), train, seed=seed)) if priors else np.zeros((len(data.table), 0))
    answered = _answered(sampled, prior[: len(log)])
    scored = answer_scores(sampled.answers, log.texts, answered, np.isin(answered.query, fitting), seed=seed)
    drawn = _drawn(sampled, replace(answered, scores=scored.scores), rows, fitting, looks[-1], seed)
    watched = Watched(drawn.runs, prior[drawn.row], drawn.row)
    seen = np.isin(drawn.row, fitting)
    policy = fit_checked(watched.rows(seen), price=rule.price, looks=looks, seed=seed) if seen.any() else None
    if policy is None:
        return _Fitted(None, rows, _cells(lead_stops(drawn.runs, PUBLISHED_LEAD, looks), drawn, sampled, rows, looks))
    model = StopModel(policy, priors if policy.n_prior else (), scored.scorer if policy.reads_scores else None)
    stops = learned_stops(policy, watched.runs, watched.prior[:, : policy.n_prior])
    return _Fitted(model, rows, _cells(stops, drawn, sampled, rows, looks))


def _answered(sampled: Sampled, prior: Array) -> Answered:
    """All queries of a log as one sampler answered them, with (n, m) priors, not scored."""
    rewards = answer_rewards(sampled.codes, sampled.correct)
    return Answered(sampled.codes, sampled.count, rewards, np.arange(len(prior)), prior, np.zeros(rewards.shape))


def _learned(action: Action) -> Learned:
    rule = parse_rule(str(action.arguments["stop"]))
    if not isinstance(rule, Learned):
        raise ActionError(f"{action} joins a learned rule with others, which replay does not know: write learned or learned(PRICE)")
    return rule


def prior_positions(action: Action, actions: tuple[str, ...]) -> tuple[int, ...]:
    """Where in a catalogue the actions stand that a vote's prior comes from: one chain, and the largest plain vote, of its model."""
    parsed = [Action.parse(spelling) for spelling in actions]
    chains = [at for at, each in enumerate(parsed) if (each.model, each.strategy) == (action.model, CHAIN)]
    votes = [at for at, each in enumerate(parsed) if (each.model, each.strategy) == (action.model, VOTES) and "stop" not in each.arguments]
    largest = sorted(votes, key=lambda at: needed(parsed[at]))[-1:]
    return tuple(chains[:1] + largest)


def _only(data: TrainingSet, positions: tuple[int, ...]) -> TrainingSet:
    return replace(data, table=data.table.only([data.table.actions[at] for at in positions]))


def _drawn(sampled: Sampled, answered: Answered, rows: Rows, fitting: Rows, k: int, seed: int) -> _Runs:
    """Runs of the samples of `rows`; only the rewards at `fitting` teach what answers are expected to be worth."""
    row = np.repeat(rows, min(max(MAX_RUNS // max(len(rows), 1), 1), ROUNDS))
    order = random_orders(sampled.count[row], sampled.depth, np.random.default_rng(seed))[:, :k]
    codes = np.take_along_axis(sampled.codes[row], order, axis=1)
    likely, tokens = (np.take_along_axis(each[row], order, axis=1) for each in (sampled.logprobs, sampled.tokens))
    expected = expected_rewards(answered, np.isin(answered.query, fitting), seed=seed)
    runs = drawn_runs(codes, likely, answered.rewards[row], answered.scores[row], expected[row])
    return _Runs(runs, row, tokens.cumsum(axis=1))


def _cells(stops: npt.NDArray[np.bool_], drawn: _Runs, sampled: Sampled, rows: Rows, looks: tuple[int, ...]) -> dict[str, Array]:
    """What stopping there gives on average over the runs of each of `rows`."""
    at, each = stops.argmax(axis=1), np.arange(len(stops))
    n_runs = np.bincount(drawn.row, minlength=len(sampled.count))[rows]

    def mean(values: Array) -> Array:
        return np.asarray(np.bincount(drawn.row, weights=values, minlength=len(sampled.count))[rows] / n_runs)

    waves = np.searchsorted(looks, at + 1) + 1.0
    return {
        "reward": mean(drawn.runs.value[each, at]),
        "tokens": mean(drawn.tokens[each, at]),
        "latency_s": mean(waves) * sampled.mean(sampled.latency_s)[rows],
        "weight": np.ones(len(rows)),
    }


def _filled(table: OutcomeTable, action: Action, fitted: _Fitted) -> OutcomeTable:
    column = table.actions.index(str(action))
    cells = {name: getattr(table, name).copy() for name in CELLS}
    for name, values in fitted.cells.items():
        cells[name][fitted.rows, column] = values
    return replace(table, **cells)
