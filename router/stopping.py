"""When to stop sampling, as served: after each wave, a weighted sum weighs stopping now against going on.

Its terms are the votes so far, what the answers say for themselves and what the predictor expected of the query; its
weights depend on how far the leader is ahead. Knows numbers only: which votes they are is agreed between
`policies.learned_stop`, which counts them, and `training.stopping`, which fits.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rheostat.router.answer_features import Question
from rheostat.router.answer_score import AnswerScorer, ScoredQuery, scorer_arrays, scorer_from
from rheostat.router.base import Array
from rheostat.router.calibration import clamp, logit

N_VOTES = 9
N_COUNTS = 5  # of these, the ones that are counts
LOGPROBS = (5, 6)
SCORES = (7, 8)
N_LEADS = 5  # leads of 0, 1, 2, 3 and more than 3 votes have weights of their own
LIMIT = 3.0  # of log-odds: beyond it nothing more is learned from few questions
KINKS = (1.0, 1.6)  # magnitudes of the leader's log-probability, about -0.02 and -0.1, from where on it counts for more

Pairs = npt.NDArray[np.intp]


@dataclass(frozen=True)
class StopPolicy:
    """A stop policy over at most `len(steps) + 1` samples.

    Attributes:
        steps: the n-th (from 1) gives value of stopping minus value of going on after n samples, in reward: (N_LEADS, m)
            weights of the m `terms`. None never stops there.
        n_prior: numbers in a prior; 0 for a rule that looks at votes alone.
    """

    steps: tuple[Array | None, ...]
    n_prior: int

    def advantage(self, features: Array, drawn: int) -> Array:
        """(n,) value of stopping over going on after `drawn` samples, for (n, N_VOTES + n_prior) rows; infinite at the end."""
        if drawn > len(self.steps):
            return np.full(len(features), np.inf)
        weights = self.steps[drawn - 1]
        if weights is None:
            return np.full(len(features), -np.inf)
        return np.asarray(np.einsum("nm,nm->n", terms(features, drawn), weights[lead_of(features)]))

    @cached_property
    def reads_logprobs(self) -> bool:
        """Whether log-probabilities have any weight."""
        return self._reads(LOGPROBS)

    @cached_property
    def reads_scores(self) -> bool:
        """Whether what the answers say for themselves has any weight."""
        return self._reads(SCORES)

    def _reads(self, features: tuple[int, ...]) -> bool:
        about = np.isin(pairs(N_VOTES + self.n_prior), features).any(axis=0)
        return any(weights is not None and bool(weights[:, about].any()) for weights in self.steps)


def lead_of(features: Array) -> npt.NDArray[np.intp]:
    """(n,) which weights rows take: by how far the leader is ahead."""
    return np.minimum(features[:, 0] - features[:, 1], N_LEADS - 1).astype(np.intp)


def terms(features: Array, drawn: int) -> Array:
    """(n, m) products of what is known after `drawn` samples, for (n, N_VOTES + p) rows.

    Counts are taken as shares of the samples, log-probabilities by their magnitude; where a log-probability or a score is
    not known it is 0, and so are all its terms.
    """
    width = features.shape[1]
    state = np.empty((len(features), width + len(KINKS)))
    state[:, 0] = 1.0
    state[:, 1] = features[:, 0] / drawn
    state[:, 2:N_COUNTS] = features[:, 2:N_COUNTS] / drawn
    state[:, N_COUNTS:width] = features[:, N_COUNTS:]
    likely = slice(LOGPROBS[0], LOGPROBS[1] + 1)
    state[:, likely] = np.log1p(-1000.0 * np.minimum(features[:, likely], 0.0)) / LIMIT
    state[:, N_COUNTS:width] = clamp(state[:, N_COUNTS:width], -LIMIT, LIMIT)
    state[:, width:] = np.maximum(state[:, LOGPROBS[1], None] - KINKS, 0.0)
    left, right = pairs(width)
    return np.asarray(state.take(left, axis=1) * state.take(right, axis=1))


@functools.cache
def pairs(width: int) -> Pairs:
    """(2, m) which columns of a state are multiplied: each alone, squares, signals with all that follow, and past the kinks."""
    signals = range(N_COUNTS, N_VOTES)
    distinct = 3
    alone = [(0, at) for at in range(width)]
    squares = [(at, at) for at in (distinct, *range(N_COUNTS, width))]
    crossed = [(signal, at) for signal in signals for at in range(signal + 1, width)]
    kinked = [(LOGPROBS[1], width + at) for at in range(len(KINKS))]
    return np.array([*alone, *squares, *crossed, *kinked]).T


@dataclass(frozen=True, slots=True)
class StopModel:
    """The stop policy of one action.

    Attributes:
        policy: fitted for it.
        priors: positions in the catalogue of the actions whose predicted P(correct) make the prior.
        scorer: of answers; None where the policy does not read scores.
    """

    policy: StopPolicy
    priors: tuple[int, ...]
    scorer: AnswerScorer | None = None

    def prior(self, p_correct: Array) -> tuple[float, ...]:
        """The prior of a query from the (a,) predictions for it."""
        return tuple(logit(p_correct[list(self.priors)]).tolist())

    def score(self, text: str, p_correct: Array) -> ScoredQuery | None:
        """What scores the answers to a query, from its text and the (a,) predictions for it."""
        return None if self.scorer is None else ScoredQuery(self.scorer, Question.of(text), self.prior(p_correct))


def stop_arrays(models: Mapping[str, StopModel]) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
    """Stop models by action, as arrays by name and a layout: what makes a bundle free of pickle."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    layout = []
    for number, (action, model) in enumerate(models.items()):
        kept = {drawn: weights for drawn, weights in enumerate(model.policy.steps) if weights is not None}
        layout.append(
            {
                "action": action,
                "priors": list(model.priors),
                "steps": list(kept),
                "depth": len(model.policy.steps),
                "votes": N_VOTES,
                "scorer": model.scorer is not None,
            }
        )
        arrays |= {f"stop{number}.{drawn}": weights for drawn, weights in kept.items()}
        if model.scorer is not None:
            arrays |= {f"stop{number}.{name}": values for name, values in scorer_arrays(model.scorer).items()}
    return arrays, layout


def stops_from(arrays: Mapping[str, npt.NDArray[Any]], layout: list[dict[str, Any]], n_actions: int) -> dict[str, StopModel]:
    """The models that `stop_arrays` took apart.

    Raises:
        KeyError: an array is missing.
        ValueError: the weights are not of the terms that this version has, a prior names no action, or a scorer is broken.
    """
    return {str(entry["action"]): _model(arrays, number, entry, n_actions) for number, entry in enumerate(layout)}


def _model(arrays: Mapping[str, npt.NDArray[Any]], number: int, entry: dict[str, Any], n_actions: int) -> StopModel:
    priors = tuple(int(position) for position in entry["priors"])
    if entry.get("votes") != N_VOTES:
        raise ValueError(f"the stop rule of {entry['action']} looks at other features of the vote than this version has")
    if not all(0 <= position < n_actions for position in priors):
        raise ValueError(f"the stop rule of {entry['action']} has its prior from actions {priors} of {n_actions}")
    steps: list[Array | None] = [None] * int(entry["depth"])
    for drawn in entry["steps"]:
        steps[drawn] = _weights(arrays[f"stop{number}.{drawn}"], N_VOTES + len(priors))
    mine = {name.removeprefix(f"stop{number}."): values for name, values in arrays.items() if name.startswith(f"stop{number}.")}
    scorer = scorer_from(mine, len(priors)) if entry["scorer"] else None
    return StopModel(StopPolicy(tuple(steps), len(priors)), priors, scorer)


def _weights(stored: Array, width: int) -> Array:
    shape = (N_LEADS, pairs(width).shape[1])
    if stored.shape != shape:
        raise ValueError(f"a stop rule over {width} features has weights of shape {stored.shape}, not {shape}")
    return stored
