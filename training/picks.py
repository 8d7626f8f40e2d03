"""Best of n, replayed exactly: what the best of a random n of K logged samples brings, and how many of them are drawn.

By log-probability all n are drawn at once. By a verifier that is right, which is what a log can stand in for, they are
drawn in waves until a grade is good enough, as live. Source of the counting: Chen et al. 2021 (pass@k).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.training.outcomes import Array
from rheostat.training.sample_log import Sampled

Counts = npt.NDArray[np.intp]


class Picked(NamedTuple):
    """Expectations over random orders of the samples, each (queries,): reward, generated tokens and waves run."""

    reward: Array
    tokens: Array
    waves: Array


def best_of(sampled: Sampled, n: int) -> Array:
    """(queries,) exact expected reward of the best-scored of a random n-subset; equal scores share their chance."""
    order = np.argsort(-sampled.scores, axis=1, kind="stable")
    correct = np.take_along_axis(sampled.correct, order, axis=1)
    scores = np.take_along_axis(sampled.scores, order, axis=1)
    present = np.arange(sampled.depth) < sampled.count[:, None]
    shared = _average_ties(correct, scores, present)
    return np.asarray((shared * _chance_of_best(sampled.count, n, sampled.depth) * present).sum(axis=1))


def best_graded(sampled: Sampled, waves: Sequence[int], enough: float) -> Picked:
    """The best of a random order of samples by their grades, drawn wave by wave until one is `enough`.

    Args:
        sampled: of each query at least as many samples as all waves have together; of others the result means nothing.
        waves: sizes, in order.
        enough: grade in (0, 1] that ends the drawing.
    """
    present = np.arange(sampled.depth) < sampled.count[:, None]
    good = present & (sampled.correct >= enough)
    grades = -np.sort(-np.where(present, sampled.correct, 0.0), axis=1)
    n_good = good.sum(axis=1)
    is_good = np.arange(sampled.depth) < n_good[:, None]
    tokens_good, tokens_bad = ((sampled.tokens * side).sum(axis=1) for side in (good, present & ~good))
    bad, drawn = sampled.count - n_good, 0
    # Where no grade is enough, all are drawn and the best of them is taken.
    reward = (grades * ~is_good * _chance_of_best(sampled.count, sum(waves), sampled.depth)).sum(axis=1)
    tokens, run = np.zeros_like(reward), np.zeros_like(reward)
    for size in waves:
        reached = _ratio(bad, drawn, sampled.count, drawn)  # all before were bad
        left = sampled.count - drawn
        each = (tokens_good + tokens_bad * (bad - drawn) / np.maximum(bad, 1)) / np.maximum(left, 1)
        reward += reached * (grades * is_good * _chance_of_best(left, size, sampled.depth)).sum(axis=1)
        tokens += reached * size * each
        run += reached
        drawn += size
    return Picked(reward, tokens, run)


def _chance_of_best(count: Counts, n: int, depth: int) -> Array:
    """(queries, depth) chance that the r-th best of `count` is the best of a random n of them: C(count - r, n - 1) / C(count, n)."""
    return _ratio(count[:, None] - 1 - np.arange(depth), n - 1, count[:, None], n)


def _average_ties(correct: Array, scores: Array, present: npt.NDArray[np.bool_]) -> Array:
    """Replace each run of equal scores by its mean reward."""
    starts = np.ones_like(present)
    starts[:, 1:] = (scores[:, 1:] != scores[:, :-1]) | ~present[:, 1:]
    run = np.cumsum(starts.ravel()) - 1
    total = np.bincount(run, weights=correct.ravel())
    length = np.bincount(run)
    return np.asarray((total / length)[run].reshape(correct.shape))


def _ratio(some: Counts, j: int, count: Counts, k: int) -> Array:
    """C(some, j) / C(count, k), 0 where either is impossible."""
    ratio = np.exp(_log_choose(some, j) - _log_choose(np.maximum(count, k), k))
    return np.asarray(np.where((some >= j) & (count >= k), ratio, 0.0))


def _log_choose(total: Counts, k: int) -> Array:
    """log C(total, k), -inf where total < k."""
    largest = int(max(total.max(initial=0), k))
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])
    safe = np.maximum(total, k)
    value = log_factorial[safe] - log_factorial[k] - log_factorial[safe - k]
    return np.asarray(np.where(total >= k, value, -np.inf))
