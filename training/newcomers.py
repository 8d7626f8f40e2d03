"""A new action in a fitted bundle, without fitting anything again: what is known of its kin, moved to where it was seen.

Its heads are means of those of the actions most like it: the same strategy of the same model with another budget first,
then the same model, then the same strategy. With outcomes of its own its chances are shifted on the logit scale as far
as the number of outcomes allows, and its tokens and seconds are scaled. No other action's prediction changes.
Source of the shrinkage: Gelman and Hill 2007 (partial pooling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.schema import Action
from rheostat.router.base import Array
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import Isotonic, Platt, sigmoid
from rheostat.router.features import feature_rows
from rheostat.router.held_out import CELLS
from rheostat.router.lookup import Clusters, Segments
from rheostat.router.networks import Networks
from rheostat.router.predictor import Boosted, CostHead, Learner, Linear, Predictor
from rheostat.training.learners import samples_of
from rheostat.training.outcomes import OutcomeTable

SAME_STRATEGY, SAME_MODEL, STRANGER = 8.0, 2.0, 0.25
PRIOR_OUTCOMES = 10.0
STEPS = 20
_PER_ACTION = ("tokens_factor", "latency_factor", "latency_p95")  # of a cost head, next to its two linear heads


def with_action(bundle: Bundle, action: Action, seen: OutcomeTable | None = None) -> Bundle:
    """The bundle with one more action at the end of its catalogue.

    Args:
        bundle: to extend; it is left as it is.
        action: new in it.
        seen: what the action gave, on any queries, where that is known.

    Raises:
        DatasetError: the bundle has the action already.
    """
    if action in bundle.actions:
        raise DatasetError(f"bundle {bundle.version} has {action} already: fit it again to learn from new outcomes")
    kin = kinship(action, bundle.actions)
    predictor = _extended(bundle.predictor, kin, action, bundle.actions)
    extended = replace(bundle, actions=(*bundle.actions, action), predictor=predictor)
    if seen is not None:
        predictor = _settled(extended, seen.only([str(action)]))
    held = bundle.held_out
    p = predictor.p_correct(bundle.canary)
    # What the action would have given there is not known: its kin's outcomes stand in for it, and can promise nothing.
    cells: dict[str, Any] = {name: np.column_stack([getattr(held, name), getattr(held, name) @ kin]) for name in CELLS}
    held_out = held._replace(**cells, fresh=np.zeros_like(held.fresh))
    return replace(extended, predictor=predictor, held_out=held_out, canary_p=p)


def kinship(action: Action, others: Sequence[Action]) -> Array:
    """(a,) how much each of the others says about an action; sums to 1."""
    weights = []
    for other in others:
        same_model, same_strategy = other.model == action.model, other.strategy == action.strategy
        near = 1.0 / (1.0 + abs(np.log2(samples_of(action)) - np.log2(samples_of(other))))
        kind = SAME_STRATEGY if same_model and same_strategy else SAME_MODEL if same_model or same_strategy else STRANGER
        weights.append(kind**2 * near)
    return np.asarray(np.array(weights) / sum(weights))


def _extended(predictor: Predictor, kin: Array, action: Action, others: Sequence[Action]) -> Predictor:
    learners = tuple(_learner(learner, kin) for learner in predictor.learners)
    weights = np.asarray(predictor.weights, dtype=np.float64)
    calibrator = predictor.calibrator
    if isinstance(calibrator, Platt):
        calibrator = Platt(*(np.append(values, values @ kin) for values in (calibrator.slope, calibrator.intercept)))
    return replace(
        predictor,
        learners=learners,
        weights=weights if weights.ndim == 1 else np.column_stack([weights, weights @ kin]),
        calibrator=calibrator,
        costs=_costs(predictor.costs, kin, action, others),
    )


def _learner(learner: Learner, kin: Array) -> Learner:
    if isinstance(learner, Boosted):
        # The closest relative's row: trees split between actions and mean nothing in the middle.
        nearest = learner.action_features[int(kin.argmax())]
        return Boosted(learner.text, learner.projection, np.vstack([learner.action_features, nearest]))
    if isinstance(learner, Linear):
        return _linear(learner, kin)
    if isinstance(learner, Clusters):
        return replace(learner, table=np.column_stack([learner.table, learner.table @ kin]))
    if isinstance(learner, Networks):
        weights = kin.astype(np.float32)
        outer = np.concatenate([learner.outer, (learner.outer @ weights)[..., None]], axis=2)
        return replace(learner, outer=outer, outer_bias=np.column_stack([learner.outer_bias, learner.outer_bias @ weights]))
    assert isinstance(learner, Segments)
    return replace(learner, means=np.column_stack([learner.means, learner.means @ kin]))


def _linear(head: Linear, kin: Array, shift: float = 0.0) -> Linear:
    return replace(head, weights=np.column_stack([head.weights, head.weights @ kin]), bias=np.append(head.bias, head.bias @ kin + shift))


def _costs(costs: CostHead, kin: Array, action: Action, others: Sequence[Action]) -> CostHead:
    """Tokens of the kin, scaled by how many times their budget the action has; their seconds, for samples come side by side."""
    budgets = np.log([samples_of(other) for other in others])
    shift = float(np.log(samples_of(action)) - budgets @ kin)
    changed: dict[str, Any] = {name: np.append(getattr(costs, name), getattr(costs, name) @ kin) for name in _PER_ACTION}
    return replace(costs, log_tokens=_linear(costs.log_tokens, kin, shift), log_latency=_linear(costs.log_latency, kin), **changed)


def _settled(bundle: Bundle, seen: OutcomeTable) -> Predictor:
    """The predictor with the last action's level moved to what was seen of it."""
    known = np.flatnonzero(seen.weight[:, 0] > 0)
    if not len(known):
        return bundle.predictor
    texts = [seen.texts[row] for row in known]
    features = feature_rows(bundle.encoder.encode(texts), texts)
    predictor, weight = bundle.predictor, seen.weight[known, 0]
    costs = predictor.costs
    scale = {
        "tokens_factor": _ratio(seen.tokens[known, 0], costs.tokens(features)[:, -1], weight),
        "latency_factor": _ratio(seen.latency_s[known, 0], costs.latency_s(features)[:, -1], weight),
    }
    moved: dict[str, Any] = {name: _last(getattr(costs, name), getattr(costs, name)[-1] * ratio) for name, ratio in scale.items()}
    calibrator = predictor.calibrator
    if not isinstance(calibrator, Isotonic):
        logits = predictor.logits(features)[:, -1] * calibrator.slope[-1] + calibrator.intercept[-1]
        shift = level_shift(logits, seen.reward[known, 0], weight)
        calibrator = Platt(calibrator.slope, _last(calibrator.intercept, calibrator.intercept[-1] + shift))
    return replace(predictor, calibrator=calibrator, costs=replace(costs, **moved))


def level_shift(logits: Array, reward: Array, weight: Array) -> float:
    """How far (n,) logits lie below the rewards, by Newton's method, drawn to 0 as by `PRIOR_OUTCOMES` outcomes."""
    shift = 0.0
    for _ in range(STEPS):
        p = sigmoid(logits + shift)
        gradient = float((weight * (p - reward)).sum()) + PRIOR_OUTCOMES / 4 * shift
        shift -= gradient / (float((weight * p * (1 - p)).sum()) + PRIOR_OUTCOMES / 4)
    return shift


def _ratio(seen: Array, expected: Array, weight: Array) -> float:
    """Seen over expected, drawn to 1 as by `PRIOR_OUTCOMES` outcomes."""
    level = float(expected.mean())
    if level <= 0:
        return 1.0
    return (float((weight * seen).sum()) + PRIOR_OUTCOMES * level) / (float((weight * expected).sum()) + PRIOR_OUTCOMES * level)


def _last(values: Array, value: float) -> Array:
    changed = values.copy()
    changed[-1] = value
    return changed
