"""From an outcome table to a bundle: features, cross-fitted learners, the choice by utility, calibration, evaluation.

Train queries fit and, by cross-fitted predictions, calibrate (Platt 1999). Calibration queries tune decision rules; half
of them are kept fresh, with no part in the router, to test what can be promised about it. Test queries only judge.
Learners are compared by the utility of the policy they lead to, on cross-fitted predictions, and the simplest within one
standard error of the best is taken (Breiman et al. 1984). Partial rows from live traffic only train: judging needs every
action's outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.data.schema import Action
from rheostat.router.base import Array, Encoder, FeatureRow
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import ErrorBand, Platt, fit_band, fit_platt, logit
from rheostat.router.encoder import StaticEncoder
from rheostat.router.features import feature_rows
from rheostat.router.guard import MAX_SUPPORT, Guard, distances
from rheostat.router.held_out import HeldOut
from rheostat.router.lexicon import Lexicon, with_lexicon
from rheostat.router.paths import Paths
from rheostat.router.predictor import CostHead, Learner, Predictor
from rheostat.router.stopping import StopModel
from rheostat.training.baselines import best_fixed, policy_utility, scale_usd
from rheostat.training.bootstrap import Interval
from rheostat.training.evaluate import CONFIDENCE, Facts, evaluate
from rheostat.training.evaluation import Evaluation
from rheostat.training.judged import costed, judge, kept_queries, lengths, price_vector
from rheostat.training.learned_actions import with_learned_stops
from rheostat.training.learners import (
    TrainingSet,
    action_means,
    fit_boosted,
    fit_clusters,
    fit_constant,
    fit_costs,
    fit_logistic,
    fit_segments,
)
from rheostat.training.lexicon import lexicon_for
from rheostat.training.neural import fit_networks
from rheostat.training.outcomes import Mask, OutcomeTable, Rows
from rheostat.training.plans import fit_sequence
from rheostat.training.replay import is_learned
from rheostat.training.sample_log import SampleLog
from rheostat.training.split import Split, distinct, folds, fresh_half, split_rows, thinned
from rheostat.training.stack import fit_weights

MIN_QUERIES = 40
MIN_PART = MIN_QUERIES // 10
N_FOLDS = 3
N_CANARY = 8
GUARD_QUANTILE = 0.999
MAX_OTHERS = 8 * MAX_SUPPORT  # queries that the guard's limit is drawn from
_BATCH = 512

LEARNERS: dict[str, Callable[[TrainingSet, int], Learner]] = {
    "constant": fit_constant,
    "logistic": fit_logistic,
    "lightgbm": fit_boosted,
    "kmeans": fit_clusters,
    "segments": fit_segments,
    "networks": fit_networks,
}

Weights = Mapping[str, "float | Array"]

# Weights over learners, simplest first: the order in which ties within one standard error are broken.
CANDIDATES: dict[str, Weights] = {
    "constant": {"constant": 1.0},
    "segments": {"segments": 1.0},
    "kmeans": {"kmeans": 1.0},
    "logistic": {"logistic": 1.0},
    "lightgbm": {"lightgbm": 1.0},
    "logistic+lightgbm": {"logistic": 0.5, "lightgbm": 0.5},
    "networks": {"networks": 1.0},
    "logistic+lightgbm+segments": {"logistic": 1 / 3, "lightgbm": 1 / 3, "segments": 1 / 3},
    "lightgbm+segments+networks": {"lightgbm": 1 / 3, "segments": 1 / 3, "networks": 1 / 3},
}
# Last, because it is the least simple: every action weighs these in its own way, as the cross-fitted predictions say.
STACK, STACKED = "stack", ("logistic", "lightgbm", "kmeans", "segments", "networks")

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
    log: SampleLog | None = None,
    seed: int = 0,
    version: str = "0",
    confidence: float = CONFIDENCE,
    on_progress: Progress = quiet,
) -> Fitted:
    """Fit, choose, calibrate and judge a router.

    Args:
        table: outcomes; rows with every action known are split, others only train.
        encoder: text to vectors.
        encoder_name: what the configuration calls it.
        prices: by model.
        log: the samples behind the table's first rows; from them stop rules and the sequential policy are learned.
        seed: of splits, learners and bootstrap.
        version: label of the bundle.
        confidence: of the promises that the evaluation shows, in (0, 1).
        on_progress: told the step and the share done, in [0, 1].

    Raises:
        DatasetError: too few queries or actions, rewards that are all the same, or a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise DatasetError(f"confidence is {confidence:g}: it must lie between 0 and 1, ends excluded")
    material = _prepared(table, encoder, log, seed, on_progress)
    data, split = material.data, material.split
    on_progress("compare learners", 0.2)
    chosen = choose(data.rows(split.train), prices, seed)
    on_progress("fit", 0.5)
    predictor = fit_predictor(data, split, chosen.weights, seed, chosen.calibration)
    bundle = _bundle(data, split, predictor, encoder, encoder_name, version, prices, seed)
    bundle, sequence = replace(bundle, lexicon=material.lexicon, stops=material.stops), None
    if log is not None:
        on_progress("sequential policy", 0.6)
        plan, sequence = fit_sequence(bundle, data, log, split, chosen.p_correct, seed=seed, prices=prices)
        bundle = replace(bundle, plan=plan)
    on_progress("shuffled control", 0.8)
    control = replace(bundle, predictor=_shuffled_predictor(data, split, chosen.weights, seed))
    on_progress("evaluate", 0.9)
    facts = Facts(version, chosen.learner, chosen.utilities, seed, len(split.train), confidence)
    evaluation = _evaluated(bundle, control, data.table, split, facts, prices=prices, encoder=material.reader)
    evaluation = msgspec.structs.replace(evaluation, sequential=sequence)
    on_progress("done", 1.0)
    return Fitted(replace(bundle, metrics=evaluation.metrics), evaluation, data.table.rows(split.test))


class _Material(NamedTuple):
    """What a fit starts from: every query's features and outcomes, the split, and what its train queries taught beforehand."""

    data: TrainingSet
    split: Split
    reader: Encoder
    lexicon: Lexicon | None
    stops: dict[str, StopModel]


def _prepared(table: OutcomeTable, encoder: Encoder, log: SampleLog | None, seed: int, on_progress: Progress) -> _Material:
    """Check the table, split it, read its texts, and label the votes whose stop rule the log teaches."""
    check_table(table if log is None else _without_learned(table))
    on_progress("embed", 0.0)
    parts = split_rows(table.texts, seed=seed)
    lexicon = lexicon_for(encoder, [table.texts[row] for row in parts.train])
    reader = with_lexicon(encoder, lexicon)
    data, stops = training_set(table, reader), dict[str, StopModel]()
    if log is not None:
        on_progress("stop rules", 0.1)
        data, stops = with_learned_stops(data, log, parts.train, seed=seed)
    return _Material(data, _usable(parts, data.table), reader, lexicon, stops)


def _evaluated(
    bundle: Bundle, control: Bundle, table: OutcomeTable, split: Split, facts: Facts, *, prices: Mapping[str, Price], encoder: Encoder
) -> Evaluation:
    """The bundle on the test queries, its multipliers from the queries that it keeps, next to the shuffled control."""
    test = table.rows(split.test)
    judged, shuffled = (judge(each, test, prices, encoder=encoder) for each in (bundle, control))
    paths = Paths(bundle, price_vector(bundle, prices))
    return evaluate(test, judged=judged, kept=kept_queries(bundle, prices), paths=paths, shuffled=shuffled, facts=facts)


def check_table(table: OutcomeTable) -> None:
    """Refuse a table nothing can be learned from.

    Raises:
        DatasetError: says what is missing and what to do.
    """
    if not len(table):
        raise DatasetError("the log has no queries: run `rheostat collect` first")
    if len(table.actions) < 2:
        raise DatasetError(f"one action is left ({', '.join(table.actions)}): there is nothing to choose between; log a second one")
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


def _without_learned(table: OutcomeTable) -> OutcomeTable:
    """The actions that are known before a stop rule is fitted."""
    return table.only([action for action in table.actions if not is_learned(Action.parse(action))])


def training_set(table: OutcomeTable, encoder: Encoder) -> TrainingSet:
    """Features of every query, next to the outcomes."""
    texts = list(table.texts)
    parts = [encoder.encode(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
    return TrainingSet(feature_rows(np.concatenate(parts), texts), encoder.dimension, table)


class Calibration(NamedTuple):
    """From logits to P(correct), and how far the mean reward may lie from it."""

    calibrator: Platt
    band: ErrorBand

    @classmethod
    def of(cls, logits: Array, table: OutcomeTable) -> Calibration:
        """Fitted to (n, a) logits of models that did not see the table."""
        calibrator = fit_platt(logits, table.reward, table.weight)
        return cls(calibrator, fit_band(calibrator(logits), table.reward, table.weight))


class Chosen(NamedTuple):
    """The learner that was chosen, how it weighs others, all utilities with 95% intervals, and its (n, a) cross-fitted predictions."""

    learner: str
    weights: Weights
    utilities: dict[str, Interval]
    calibration: Calibration
    p_correct: Array


def choose(train: TrainingSet, prices: Mapping[str, Price], seed: int) -> Chosen:
    """The simplest candidate within one standard error of the most useful one, on cross-fitted predictions."""
    logits = cross_fitted(train, seed)
    complete = np.flatnonzero(train.table.known_in_full)
    truth = costed(train.table.rows(complete), prices)
    scale = scale_usd(truth)
    cost = _expected_cost(fit_costs(train), train, prices)[complete]
    candidates = {**CANDIDATES, STACK: stack_weights(logits, train, complete)}
    utilities = {}
    for name, weights in candidates.items():
        mixed = _mixed(logits, weights)
        p = fit_platt(mixed, train.table.reward, train.table.weight)(mixed)
        utilities[name] = policy_utility(p[complete], cost, truth, scale_usd=scale)
    learner = simplest_of_best(utilities)
    mixed = _mixed(logits, candidates[learner])
    calibration = Calibration.of(mixed, train.table)
    intervals = {name: _normal_interval(values) for name, values in utilities.items()}
    return Chosen(learner, candidates[learner], intervals, calibration, calibration.calibrator(mixed))


def stack_weights(logits: Mapping[str, Array], train: TrainingSet, complete: Rows) -> Weights:
    """How each action weighs the stacked learners; the constants are left to the calibrator."""
    x = np.stack([logits[name][complete] for name in STACKED], axis=2)
    weights = fit_weights(x, train.table.reward[complete], logit(action_means(train.table)))
    return {name: weights[:, at] for at, name in enumerate(STACKED)}


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


def cross_fitted(train: TrainingSet, seed: int, names: Iterable[str] = tuple(LEARNERS)) -> dict[str, Array]:
    """(n, a) logits by learner, each query's from models that did not see it."""
    logits = {name: np.zeros(train.table.reward.shape) for name in names}
    for part in folds(train.table.texts, N_FOLDS, seed=seed):
        rest = train.rows(np.setdiff1d(np.arange(len(train.table)), part))
        for name, found in logits.items():
            found[part] = LEARNERS[name](rest, seed).logits(train.features[part])
    return logits


def fit_predictor(data: TrainingSet, split: Split, weights: Weights, seed: int, calibration: Calibration | None = None) -> Predictor:
    """Learners and costs from the train queries, calibrated as given, or else on the calibration queries."""
    train, held = data.rows(split.train), data.rows(split.calibration)
    learners = tuple(LEARNERS[name](train, seed) for name in weights)
    if calibration is None:
        logits = dict(zip(weights, (learner.logits(held.features) for learner in learners), strict=True))
        calibration = Calibration.of(_mixed(logits, weights), held.table)
    return Predictor(learners, np.array(list(weights.values())), calibration.calibrator, calibration.band, fit_costs(train))


def _shuffled_predictor(data: TrainingSet, split: Split, weights: Weights, seed: int) -> Predictor:
    """The same fit on rewards dealt out anew among the queries: whatever it gains is an artefact."""
    rng, order, full = np.random.default_rng(seed), np.arange(len(data.table)), data.table.known_in_full
    for rows in (np.flatnonzero(full), np.flatnonzero(~full)):
        order[rows] = rng.permutation(rows)
    table = replace(data.table, reward=data.table.reward[order], weight=data.table.weight[order])
    shuffled = fit_predictor(replace(data, table=table), split, weights, seed)
    return replace(shuffled, costs=fit_costs(data.rows(split.train)))  # of partial rows, other cells are known than were dealt


def _bundle(
    data: TrainingSet,
    split: Split,
    predictor: Predictor,
    encoder: Encoder,
    encoder_name: str,
    version: str,
    prices: Mapping[str, Price],
    seed: int,
) -> Bundle:
    fresh = _fresh(data.table, split, seed)
    guard = _guard(data, split.train, split.calibration[~fresh], prices)
    canary = data.features[split.calibration[:N_CANARY]]
    return Bundle(
        version=version,
        actions=tuple(Action.parse(spelling) for spelling in data.table.actions),
        encoder_id=encoder.encoder_id,
        encoder_name=encoder_name,
        predictor=predictor,
        guard=guard,
        held_out=held_out_of(data.rows(split.calibration), predictor, guard, fresh),
        canary=canary,
        canary_p=predictor.p_correct(canary),
        training_digest=data.table.digest,
        encoder_folder=encoder.folder if isinstance(encoder, StaticEncoder) else None,
    )


def _fresh(table: OutcomeTable, split: Split, seed: int) -> Mask:
    """(n,) calibration queries that nothing looks at; none where too few would be left to look at."""
    fresh = fresh_half([table.texts[row] for row in split.calibration], seed=seed)
    return fresh if (~fresh).sum() >= MIN_PART else np.zeros_like(fresh)


def held_out_of(held: TrainingSet, predictor: Predictor, guard: Guard, fresh: Mask) -> HeldOut:
    """Queries with known outcomes as a bundle keeps them; `fresh` (n,) are those that had no part in it."""
    table, costs = held.table, predictor.costs
    prompts = costs.prompt_tokens(lengths(table.texts))
    return HeldOut(
        p_correct=predictor.p_correct(held.features),
        reward=table.reward,
        tokens=table.tokens,
        prompt_tokens=table.prompt_tokens,
        expected_tokens=costs.tokens(held.features),
        expected_prompt_tokens=np.repeat(prompts[:, None], len(table.actions), axis=1),
        fresh=fresh,
        far=guard.far(held.features[:, : held.dimension]),
    )


def _guard(data: TrainingSet, train: Rows, tuning: Rows, prices: Mapping[str, Price]) -> Guard:
    """Support from an even draw of the train queries; the limit from how far the others lie from it, and its rows from the rest.

    With the tuning queries alone the limit of a small log would call every fiftieth query far, and the guard is dear.
    """
    drawn = thinned(train, MAX_SUPPORT)
    embeddings = data.features[:, : data.dimension]
    support: FeatureRow = embeddings[drawn]
    others = np.concatenate([tuning, thinned(np.setdiff1d(train, drawn), MAX_OTHERS)])
    seen = np.concatenate([distances(support, embeddings[others]), distances(support, support, skipped=1)])
    action = best_fixed(costed(data.table.rows(tuning), prices))
    return Guard(support, float(np.quantile(seen, GUARD_QUANTILE)) + 1e-3, action)


def _usable(split: Split, table: OutcomeTable) -> Split:
    """A split with incomplete rows and repeated questions kept out of calibration and test: a copy is no evidence of its own."""
    complete = table.known_in_full
    calibration, test = (distinct(table.texts, rows[complete[rows]]) for rows in (split.calibration, split.test))
    parts = Split(split.train, calibration, test)
    for name, rows in parts._asdict().items():
        if len(rows) < MIN_PART:
            raise DatasetError(f"the {name} part has {len(rows)} different queries of {len(table)}: collect more, or other questions")
    return parts


def _expected_cost(costs: CostHead, data: TrainingSet, prices: Mapping[str, Price]) -> Array:
    expected = replace(data.table, tokens=costs.tokens(data.features))
    return expected.cost_usd(prices)


def _mixed(logits: Mapping[str, Array], weights: Weights) -> Array:
    return np.asarray(sum(weight * logits[name] for name, weight in weights.items()))


def _normal_interval(values: Array) -> Interval:
    mean, error = float(values.mean()), 1.96 * float(values.std()) / float(np.sqrt(len(values)))
    return Interval(mean, mean - error, mean + error)
