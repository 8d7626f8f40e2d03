"""From an outcome table to a bundle: features, cross-fitted learners, the choice by utility, calibration, evaluation.

Train queries fit, calibration queries calibrate and tune, test queries only judge. Learners are compared by the utility
of the policy they lead to, on cross-fitted predictions, and the simplest within one standard error of the best is taken
(Breiman et al. 1984). Partial rows from live traffic only train: judging needs every action's outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.data.schema import Action
from rheostat.router.base import Array, Encoder, FeatureRow
from rheostat.router.bundle import Bundle, HeldOut
from rheostat.router.calibration import fit_band, fit_platt
from rheostat.router.encoder import StaticEncoder
from rheostat.router.features import feature_rows
from rheostat.router.guard import MAX_SUPPORT, Guard, distances
from rheostat.router.predictor import CostHead, Predictor
from rheostat.training.baselines import best_fixed, policy_utility
from rheostat.training.evaluate import Evaluation, Facts, Interval, costed, evaluate, judge
from rheostat.training.learners import LEARNERS, TrainingSet, fit_costs
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.split import Split, folds, split_rows

MIN_QUERIES = 40
N_FOLDS = 3
N_CANARY = 8
GUARD_QUANTILE = 0.999
_BATCH = 512

# Weights over learners, simplest first: the order in which ties within one standard error are broken.
CANDIDATES: dict[str, dict[str, float]] = {
    "constant": {"constant": 1.0},
    "logistic": {"logistic": 1.0},
    "lightgbm": {"lightgbm": 1.0},
    "logistic+lightgbm": {"logistic": 0.5, "lightgbm": 0.5},
}

Progress = Callable[[str, float], None]


def quiet(step: str, share: float) -> None:
    """Report progress to nobody."""
    del step, share


@dataclass(frozen=True, slots=True)
class Fitted:
    """A bundle, how it did on held-out queries, and those queries."""

    bundle: Bundle
    evaluation: Evaluation
    test: OutcomeTable


def fit(
    table: OutcomeTable,
    *,
    encoder: Encoder,
    encoder_name: str,
    prices: Mapping[str, Price],
    seed: int = 0,
    version: str = "0",
    on_progress: Progress = quiet,
) -> Fitted:
    """Fit, choose, calibrate and judge a router.

    Args:
        table: outcomes; rows with every action known are split, others only train.
        encoder: text to vectors.
        encoder_name: what the configuration calls it.
        prices: by model.
        seed: of splits, learners and bootstrap.
        version: label of the bundle.
        on_progress: told the step and the share done, in [0, 1].

    Raises:
        DatasetError: too few queries or actions, or rewards that are all the same.
    """
    check_table(table)
    on_progress("embed", 0.0)
    data = training_set(table, encoder)
    split = _split(table, seed)
    train = data.rows(split.train)
    on_progress("compare learners", 0.2)
    candidates, learner = choose(train, prices, seed)
    on_progress("fit", 0.6)
    predictor = fit_predictor(data, split, CANDIDATES[learner], seed)
    bundle = _bundle(data, split, predictor, encoder, encoder_name, version, prices)
    on_progress("shuffled control", 0.75)
    control = replace(bundle, predictor=_shuffled_predictor(data, split, CANDIDATES[learner], seed))
    on_progress("evaluate", 0.9)
    test = table.rows(split.test)
    calibration = judge(bundle, table.rows(split.calibration), prices, encoder=encoder)
    judged, shuffled = (judge(each, test, prices, encoder=encoder) for each in (bundle, control))
    facts = Facts(version, learner, candidates, seed, len(split.train))
    evaluation = evaluate(test, judged=judged, calibration=calibration, shuffled=shuffled, facts=facts)
    on_progress("done", 1.0)
    return Fitted(replace(bundle, metrics=evaluation.metrics), evaluation, test)


def check_table(table: OutcomeTable) -> None:
    """Refuse a table nothing can be learned from.

    Raises:
        DatasetError: says what is missing and what to do.
    """
    if not len(table):
        raise DatasetError("the log has no queries: run `rheostat collect` first")
    if len(table.actions) < 2:
        raise DatasetError(f"the table has {len(table.actions)} action: a router needs two or more to choose from")
    complete = int(table.known_in_full.sum())
    if complete < MIN_QUERIES:
        raise DatasetError(
            f"the table has {len(table)} queries, {complete} of them with every action's outcome; at least {MIN_QUERIES} of those "
            "are needed: collect more, or leave out the actions with few samples"
        )
    rewards = table.reward[table.weight > 0]
    if rewards.min() == rewards.max():
        raise DatasetError(
            f"every action has reward {rewards.min():g} on every query: there is nothing to learn. Take the cheapest action, or check the "
            "reference answers and the answer extraction"
        )


def training_set(table: OutcomeTable, encoder: Encoder) -> TrainingSet:
    """Features of every query, next to the outcomes."""
    texts = list(table.texts)
    parts = [encoder.encode(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
    return TrainingSet(feature_rows(np.concatenate(parts), texts), encoder.dimension, table)


def choose(train: TrainingSet, prices: Mapping[str, Price], seed: int) -> tuple[dict[str, Interval], str]:
    """Utility of every candidate with 95% interval, and the simplest within one standard error of the best."""
    logits = cross_fitted(train, seed)
    complete = np.flatnonzero(train.table.known_in_full)
    truth = costed(train.table.rows(complete), prices)
    scale = float(truth.cost_usd[:, best_fixed(truth)].mean())
    cost = _expected_cost(fit_costs(train), train, prices)[complete]
    utilities = {}
    for name, weights in CANDIDATES.items():
        mixed = _mixed(logits, weights)
        p = fit_platt(mixed, train.table.reward, train.table.weight)(mixed)[complete]
        utilities[name] = policy_utility(p, cost, truth, scale_usd=scale)
    return {name: _normal_interval(values) for name, values in utilities.items()}, simplest_of_best(utilities)


def simplest_of_best(utilities: Mapping[str, Array]) -> str:
    """The first name whose paired shortfall from the best mean utility is within one standard error.

    Args:
        utilities: (n,) per-query utilities on the same queries, simplest candidate first.
    """
    best = max(utilities, key=lambda name: float(utilities[name].mean()))
    for name, values in utilities.items():
        shortfall = utilities[best] - values
        if float(shortfall.mean()) <= float(shortfall.std()) / np.sqrt(len(shortfall)):
            return name
    return best


def cross_fitted(train: TrainingSet, seed: int) -> dict[str, Array]:
    """(n, a) logits by learner, each query's from models that did not see it."""
    parts = folds(train.table.texts, N_FOLDS, seed=seed)
    logits = {name: np.zeros(train.table.reward.shape) for name in LEARNERS}
    for part in parts:
        rest = np.setdiff1d(np.arange(len(train.table)), part)
        for name, fit_learner in LEARNERS.items():
            logits[name][part] = fit_learner(train.rows(rest), seed).logits(train.features[part])
    return logits


def fit_predictor(data: TrainingSet, split: Split, weights: Mapping[str, float], seed: int) -> Predictor:
    """Learners and costs from the train queries, calibrator and error band from the calibration queries."""
    train, held = data.rows(split.train), data.rows(split.calibration)
    learners = tuple(LEARNERS[name](train, seed) for name in weights)
    mixed = _mixed(dict(zip(weights, (learner.logits(held.features) for learner in learners), strict=True)), weights)
    calibrator = fit_platt(mixed, held.table.reward, held.table.weight)
    band = fit_band(calibrator(mixed), held.table.reward, held.table.weight)
    return Predictor(learners, tuple(weights.values()), calibrator, band, fit_costs(train))


def _shuffled_predictor(data: TrainingSet, split: Split, weights: Mapping[str, float], seed: int) -> Predictor:
    """The same fit on rewards dealt out anew among the queries: whatever it gains is an artefact."""
    order = np.random.default_rng(seed).permutation(len(data.table))
    table = replace(data.table, reward=data.table.reward[order], weight=data.table.weight[order])
    return fit_predictor(replace(data, table=table), split, weights, seed)


def _bundle(
    data: TrainingSet,
    split: Split,
    predictor: Predictor,
    encoder: Encoder,
    encoder_name: str,
    version: str,
    prices: Mapping[str, Price],
) -> Bundle:
    table, held = data.table, data.table.rows(split.calibration)
    p = predictor.p_correct(data.features[split.calibration])
    canary = data.features[split.calibration[:N_CANARY]]
    return Bundle(
        version=version,
        actions=tuple(Action.parse(spelling) for spelling in table.actions),
        encoder_id=encoder.encoder_id,
        encoder_name=encoder_name,
        predictor=predictor,
        guard=_guard(data, split, best_fixed(costed(held, prices))),
        held_out=HeldOut(p, held.reward, held.tokens, held.prompt_tokens),
        canary=canary,
        canary_p=predictor.p_correct(canary),
        training_digest=table.digest,
        encoder_folder=encoder.folder if isinstance(encoder, StaticEncoder) else None,
    )


def _guard(data: TrainingSet, split: Split, action: int) -> Guard:
    """Support from an even draw of the train queries; the limit from the calibration queries, which it has not seen."""
    step = max(1, -(-len(split.train) // MAX_SUPPORT))
    support: FeatureRow = data.features[split.train[::step], : data.dimension]
    seen = distances(support, data.features[split.calibration, : data.dimension])
    return Guard(support, float(np.quantile(seen, GUARD_QUANTILE)) + 1e-3, action)


def _split(table: OutcomeTable, seed: int) -> Split:
    """The split by text, with incomplete rows kept out of calibration and test."""
    split = split_rows(table.texts, seed=seed)
    complete = table.known_in_full
    parts = Split(split.train, split.calibration[complete[split.calibration]], split.test[complete[split.test]])
    for name, rows in parts._asdict().items():
        if len(rows) < MIN_QUERIES // 10:
            raise DatasetError(f"the {name} part has {len(rows)} different queries of {len(table)}: collect more, or other questions")
    return parts


def _expected_cost(costs: CostHead, data: TrainingSet, prices: Mapping[str, Price]) -> Array:
    expected = replace(data.table, tokens=costs.tokens(data.features))
    return expected.cost_usd(prices)


def _mixed(logits: Mapping[str, Array], weights: Mapping[str, float]) -> Array:
    return np.asarray(sum(weight * logits[name] for name, weight in weights.items()))


def _normal_interval(values: Array) -> Interval:
    mean, error = float(values.mean()), 1.96 * float(values.std()) / float(np.sqrt(len(values)))
    return Interval(mean, mean - error, mean + error)
