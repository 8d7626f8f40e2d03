"""One draw of every action on every query of a log: what each would have answered, had they all been run side by side.

Actions that use the same sampler get samples of their own as far as the log reaches, so that agreement between them
means what it will mean when they are really run. Votes stop as their rule says. Unparsed answers are -1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.data.schema import Action
from rheostat.router.base import Array
from rheostat.router.calibration import logit
from rheostat.router.sequential import NO_ANSWER, Codes
from rheostat.router.stopping import StopModel
from rheostat.training.answer_scores import scored_by
from rheostat.training.learned_actions import PUBLISHED_LEAD
from rheostat.training.outcomes import Rows
from rheostat.training.replay import BEST, GRADE, VOTES, is_learned, pick_of, schedule_of
from rheostat.training.sample_log import Sampled, SampleLog, needed
from rheostat.training.sampled_items import by_sample, relabelled
from rheostat.training.stopping import lead_stops, learned_stops
from rheostat.training.trajectories import Trajectories, random_orders, trajectories
from rheostat.training.votes import Schedule

Stops = npt.NDArray[np.bool_]


class Draws(NamedTuple):
    """What each action answered; all are (n, a): answer numbers that mean the same for all actions, rewards, tokens."""

    answers: Codes
    reward: Array
    tokens: Array


class _Column(NamedTuple):
    """The draw of one action, each (n,)."""

    answers: Codes
    reward: Array
    tokens: Array


class _Samples(NamedTuple):
    """The samples one action drew, each (n, k), in order of submission; `said` is what their answers say for themselves."""

    codes: Codes
    shared: Codes
    correct: Array
    tokens: Array
    scores: Array
    logprobs: Array
    said: Array | None = None


class _Stop(NamedTuple):
    """A learned rule at work on n queries: (n, m) priors, and (n, A) scores of the sampler's answers if it reads any."""

    model: StopModel
    prior: Array
    scores: Array | None


def draw(
    log: SampleLog, actions: Sequence[Action], rows: Rows, *, p_correct: Array, stops: Mapping[str, StopModel], seed: int = 0
) -> Draws:
    """Draw every action once on each of some queries.

    Args:
        log: with enough samples of these queries for each action.
        actions: a of them.
        rows: n rows of the log.
        p_correct: (n, c) predictions for the whole catalogue, for the priors of learned stop rules.
        stops: learned stop rules by action.
        seed: of the orders of samples.
    """
    rng = np.random.default_rng(seed)
    hands: dict[int, _Hand] = {}
    columns = []
    for action in actions:
        sampled = log.sampler_of(action)
        hand = hands.setdefault(id(sampled), _Hand(sampled, rows, rng))
        stop = _stop(stops.get(str(action)), log, sampled, rows, p_correct)
        columns.append(_played(action, hand.take(needed(action), stop.scores if stop else None), stop))
    return Draws(*(np.stack(parts, axis=1) for parts in zip(*columns, strict=True)))


def _stop(model: StopModel | None, log: SampleLog, sampled: Sampled, rows: Rows, p_correct: Array) -> _Stop | None:
    if model is None:
        return None
    prior = logit(p_correct[:, list(model.priors)])
    if model.scorer is None:
        return _Stop(model, prior, None)
    answers, texts = [sampled.answers[row] for row in rows], [log.texts[row] for row in rows]
    return _Stop(model, prior, scored_by(model.scorer, answers, texts, prior, max(map(len, answers), default=1) or 1))


class _Hand:
    """A sampler's samples of some queries in random order, dealt out from the top and then again from the start."""

    def __init__(self, sampled: Sampled, rows: Rows, rng: np.random.Generator) -> None:
        self._order = random_orders(sampled.count[rows], sampled.depth, rng)
        self._sampled, self._rows, self._dealt = sampled, rows, 0

    def take(self, k: int, scores: Array | None = None) -> _Samples:
        """The next k samples of every query, with the (n, A) scores of their answers where there are any."""
        count = np.maximum(self._sampled.count[self._rows], 1)[:, None]
        at = np.take_along_axis(self._order, (self._dealt + np.arange(k)) % count, axis=1)
        self._dealt += k
        sampled = self._sampled
        shared = sampled.codes if sampled.shared is None else sampled.shared
        codes, shared = (np.take_along_axis(values[self._rows], at, axis=1) for values in (sampled.codes, shared))
        correct, tokens, ranks, likely = (
            np.take_along_axis(values[self._rows], at, axis=1)
            for values in (sampled.correct, sampled.tokens, sampled.scores, sampled.logprobs)
        )
        said = None if scores is None else by_sample(codes, scores)
        return _Samples(codes, shared, correct, tokens, ranks, likely, said)


def _played(action: Action, samples: _Samples, stop: _Stop | None) -> _Column:
    if action.strategy == VOTES:
        return _voted(action, samples, stop)
    if action.strategy == BEST:
        return _picked(action, samples)
    return _Column(samples.shared[:, 0], samples.correct[:, 0], samples.tokens[:, 0])


def _picked(action: Action, samples: _Samples) -> _Column:
    """The best of the samples that best-of-n draws: all of them, by a verifier only until a wave has a grade that is enough."""
    strategy, sizes = pick_of(action)
    by_grade, last = strategy.by == GRADE, np.cumsum(sizes) - 1
    ranks = samples.correct if by_grade else samples.scores
    ends = np.maximum.accumulate(ranks, axis=1)[:, last] >= (strategy.enough if by_grade else np.inf)
    ends[:, -1] = True
    at = last[ends.argmax(axis=1)]
    each, drawn = np.arange(len(at)), np.arange(strategy.n) <= at[:, None]
    chosen = np.where(drawn, ranks, -np.inf).argmax(axis=1)
    return _Column(samples.shared[each, chosen], samples.correct[each, chosen], samples.tokens.cumsum(axis=1)[each, at])


def _voted(action: Action, samples: _Samples, stop: _Stop | None) -> _Column:
    each, k = np.arange(len(samples.codes)), samples.codes.shape[1]
    codes, _ = relabelled(samples.codes, np.zeros((len(each), int(samples.codes.max(initial=0)) + 1)))
    # Relabelled answers are numbered by the first sample that has them, so the leader's number says which to take.
    runs = trajectories(codes, np.broadcast_to(np.arange(k, dtype=np.float64), (len(each), k)), samples.logprobs, scores=samples.said)
    at = _stops(action, runs, stop).argmax(axis=1)
    led, pick = runs.first[each, at] > 0, runs.value[each, at].astype(np.intp)
    return _Column(
        answers=np.where(led, samples.shared[each, pick], np.int16(NO_ANSWER)),
        reward=np.where(led, samples.correct[each, pick], 0.0),
        tokens=samples.tokens.cumsum(axis=1)[each, at],
    )


def _stops(action: Action, runs: Trajectories, stop: _Stop | None) -> Stops:
    """(n, k) where the action's rule ends the run."""
    if is_learned(action):
        if stop is None:
            return lead_stops(runs, PUBLISHED_LEAD, schedule_of(action).checks)
        return learned_stops(stop.model.policy, runs, stop.prior)
    schedule: Schedule = schedule_of(action, stop=str(action.arguments.get("stop", "")))
    stops = np.zeros(runs.value.shape, dtype=bool)
    for drawn, table in (schedule.stops or {}).items():
        stops[:, drawn - 1] = table[runs.first[:, drawn - 1], runs.second[:, drawn - 1]]
    stops[:, -1] = True
    return stops
