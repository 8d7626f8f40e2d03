"""Fitting: outcome table and features in, learners of `router.predictor` out.

Labels may be fractions (expected rewards from replay) and cells may be missing or weighted. Knows nothing of splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rheostat.data.schema import Action
from rheostat.router.base import Array, FeatureRow
from rheostat.router.calibration import logit
from rheostat.router.lookup import Clusters, Segments
from rheostat.router.predictor import LOGIT_LIMIT, Boosted, CostHead, Linear
from rheostat.training.boosting import fit_booster
from rheostat.training.outcomes import OutcomeTable

PROJECTED = 24
ROUNDS = 160
RIDGE_LOGISTIC = 20.0
# Where queries are few, noise in what each is expected to cost misleads a choice among many actions more than its mean would.
RIDGE_COST = 1000.0
CLUSTERS = 64
PRIOR_GROUP = 5.0
SEGMENT_RIDGE = 0.3
_PRIOR = 2.0  # pseudo-observations of the table's mean behind every action's own mean


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Aligned features and outcomes; `dimension` of the feature columns are the embedding."""

    features: FeatureRow
    dimension: int
    table: OutcomeTable

    def rows(self, index: npt.NDArray[np.intp]) -> TrainingSet:
        """The queries at `index`."""
        return TrainingSet(self.features[index], self.dimension, self.table.rows(index))


def fit_constant(data: TrainingSet, seed: int = 0) -> Linear:
    """Each action's own mean, whatever the query: the simplest learner, and what every other has to beat."""
    del seed
    d, a = data.features.shape[1], len(data.table.actions)
    return Linear(np.zeros(d), np.ones(d), np.zeros((d, a)), logit(action_means(data.table)))


def fit_logistic(data: TrainingSet, seed: int = 0) -> Linear:
    """Logistic regression per action, all actions at once by L-BFGS; weights are shrunk, biases are not."""
    from scipy.optimize import minimize

    del seed
    mean, scale = _standard(data.features)
    x = np.clip((data.features - mean) / scale, -6, 6).astype(np.float64)
    reward, weight = data.table.reward, _normalised(data.table.weight)
    d, a = x.shape[1], reward.shape[1]

    def loss(flat: Array) -> tuple[float, Array]:
        w, b = flat[: d * a].reshape(d, a), flat[d * a :]
        z = x @ w + b
        p = 0.5 * (1 + np.tanh(0.5 * z))
        value = float((weight * (np.logaddexp(0, z) - reward * z)).sum() + 0.5 * RIDGE_LOGISTIC * (w**2).sum())
        residual = weight * (p - reward)
        # A breath of shrinkage keeps the bias of an always-right action finite.
        value += 0.5 * 1e-2 * float((b**2).sum())
        return value, np.concatenate([(x.T @ residual + RIDGE_LOGISTIC * w).ravel(), residual.sum(axis=0) + 1e-2 * b])

    start = np.concatenate([np.zeros(d * a), logit(action_means(data.table))])
    flat = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 150, "ftol": 1e-7}).x
    weights: Array = flat[: d * a]
    return Linear(mean, scale, weights.reshape(d, a), np.clip(flat[d * a :], -LOGIT_LIMIT, LOGIT_LIMIT))


def fit_boosted(data: TrainingSet, seed: int = 0) -> Boosted:
    """LightGBM over (query, action) rows, cross-entropy on fractional labels, monotone in the action's token cap.

    A higher cap never makes the same strategy worse in expectation; more votes may, so k carries no constraint.
    """
    actions = [Action.parse(spelling) for spelling in data.table.actions]
    features, monotone = action_features(actions)
    projection = principal_directions(data.features[:, : data.dimension])
    shell = Boosted("", projection, features)
    rows = shell.rows(data.features)
    weight = _normalised(data.table.weight).ravel()
    seen = weight > 0
    settings = _SETTINGS | {"monotone_constraints": [0] * (rows.shape[1] - len(monotone)) + monotone}
    booster = fit_booster(rows[seen], data.table.reward.ravel()[seen], weight[seen], settings=settings, rounds=ROUNDS, seed=seed)
    return Boosted(booster.model_to_string(), projection, features)


_SETTINGS = {
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.6,
    "lambda_l2": 5.0,
    "max_bin": 63,
}


def fit_clusters(data: TrainingSet, seed: int = 0) -> Clusters:
    """Mean rewards in k-means clusters of the embeddings, drawn to each action's own mean."""
    from sklearn.cluster import MiniBatchKMeans

    embeddings = np.ascontiguousarray(data.features[:, : data.dimension])
    n_clusters = max(1, min(CLUSTERS, len(embeddings) // 10, len(np.unique(embeddings[: 10 * CLUSTERS], axis=0))))
    found = MiniBatchKMeans(n_clusters, n_init=1, max_iter=40, batch_size=1024, random_state=seed).fit(embeddings)
    return Clusters(found.cluster_centers_.astype(np.float32), logit(_group_means(data, found.labels_, n_clusters)))


def fit_segments(data: TrainingSet, seed: int = 0) -> Segments:
    """A softmax over data sets by their texts, and each data set's mean rewards."""
    from sklearn.linear_model import LogisticRegression

    del seed
    codes = data_sets(data.table)
    n_sets = int(codes.max()) + 1
    mean, scale = _standard(data.features)
    weights, bias = np.zeros((data.features.shape[1], n_sets)), np.zeros(n_sets)
    if n_sets > 1:
        x = np.clip((data.features - mean) / scale, -6, 6)
        model = LogisticRegression(C=SEGMENT_RIDGE, max_iter=200, tol=1e-2).fit(x, codes)
        # With two data sets scikit-learn has one column: the other's logit is 0.
        two = n_sets == 2
        weights[:, -1 if two else slice(None)] = model.coef_[0] if two else model.coef_.T
        bias[-1 if two else slice(None)] = model.intercept_[0] if two else model.intercept_
    return Segments(mean, scale, weights, bias, _group_means(data, codes, n_sets))


def data_sets(table: OutcomeTable) -> npt.NDArray[np.intp]:
    """(n,) number of each query's data set; all the same where there is hardly a query to a data set, and so no mean of one."""
    names, codes = np.unique(table.datasets, return_inverse=True)
    return np.zeros_like(codes) if 2 * len(names) > len(codes) else codes


def _group_means(data: TrainingSet, codes: npt.NDArray[np.intp], n_groups: int) -> Array:
    """(n_groups, a) mean reward of each group over what was observed, drawn to the action's own mean."""
    weight = _normalised(data.table.weight)
    seen, total = np.zeros((n_groups, weight.shape[1])), np.zeros((n_groups, weight.shape[1]))
    np.add.at(seen, codes, weight)
    np.add.at(total, codes, weight * data.table.reward)
    return np.asarray((total + PRIOR_GROUP * action_means(data.table)) / (seen + PRIOR_GROUP))


def action_features(actions: Sequence[Action]) -> tuple[Array, list[int]]:
    """(a, f) features of actions and, for each, the sign of its monotone constraint.

    One indicator per model, one per strategy, the logarithms of samples and of tokens per sample, and the position.
    """
    models, strategies = sorted({a.model for a in actions}), sorted({a.strategy for a in actions})
    rows = []
    for position, action in enumerate(actions):
        count = samples_of(action)
        indicators = [float(action.model == model) for model in models] + [float(action.strategy == strategy) for strategy in strategies]
        rows.append([*indicators, float(position), np.log2(count), np.log2(action.max_tokens / max(count, 1.0))])
    return np.array(rows), [0] * (len(models) + len(strategies) + 2) + [1]


def samples_of(action: Action) -> float:
    """Samples an action draws at most."""
    samples = action.arguments.get("k", action.arguments.get("n", 1))
    return float(samples) if isinstance(samples, int | float) else 1.0


def principal_directions(embeddings: FeatureRow, size: int = PROJECTED) -> Array:
    """(dimension, m) leading directions of the embeddings, m at most `size`, signs fixed."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    leading = vectors[:, ::-1][:, :size]
    return np.asarray(leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])]))


def fit_costs(data: TrainingSet) -> CostHead:
    """Ridge regression of the logarithms of tokens and seconds, with the mean restored action by action."""
    table = data.table
    log_tokens = _ridge(data, np.log1p(table.tokens))
    log_latency = _ridge(data, np.log1p(table.latency_s))
    predicted_latency = np.expm1(np.clip(log_latency.raw(data.features), 0, None))
    latency_factor = _factor(predicted_latency, table.latency_s, table.weight)
    base, per_character = _prompt_line(table)
    return CostHead(
        log_tokens=log_tokens,
        log_latency=log_latency,
        tokens_factor=_factor(np.expm1(np.clip(log_tokens.raw(data.features), 0, None)), table.tokens, table.weight),
        latency_factor=latency_factor,
        latency_p95=_ratio_p95(predicted_latency * latency_factor, table.latency_s, table.weight),
        prompt_base=base,
        prompt_per_character=per_character,
    )


def action_means(table: OutcomeTable) -> Array:
    """(a,) mean reward of each action, drawn to the table's mean where it was hardly seen."""
    weight = _normalised(table.weight)
    overall = float((weight * table.reward).sum() / max(float(weight.sum()), 1e-12))
    return np.asarray(((weight * table.reward).sum(axis=0) + _PRIOR * overall) / (weight.sum(axis=0) + _PRIOR))


def _ridge(data: TrainingSet, target: Array) -> Linear:
    mean, scale = _standard(data.features)
    x = np.clip((data.features - mean) / scale, -6, 6).astype(np.float64)
    weights, bias = np.zeros((x.shape[1], target.shape[1])), np.zeros(target.shape[1])
    seen = data.table.weight > 0
    # Columns with the same queries seen share one factorisation; full-information tables have one group.
    for pattern in np.unique(seen, axis=1).T:
        columns = np.flatnonzero((seen == pattern[:, None]).all(axis=0))
        if pattern.any():
            weights[:, columns], bias[columns] = _solve(x[pattern], target[np.ix_(np.flatnonzero(pattern), columns)])
    return Linear(mean, scale, weights, bias)


def _solve(x: Array, target: Array) -> tuple[Array, Array]:
    centre, level = x.mean(axis=0), target.mean(axis=0)
    centred = x - centre
    weights = np.linalg.solve(centred.T @ centred + RIDGE_COST * np.eye(x.shape[1]), centred.T @ (target - level))
    return weights, level - centre @ weights


def _factor(predicted: Array, seen: Array, weight: Array) -> Array:
    observed = weight > 0
    total = (predicted * observed).sum(axis=0)
    return np.asarray(np.where(total > 0, (seen * observed).sum(axis=0) / np.maximum(total, 1e-12), 1.0))


def _ratio_p95(predicted: Array, seen: Array, weight: Array) -> Array:
    ratios = []
    for column in range(seen.shape[1]):
        rows = (weight[:, column] > 0) & (predicted[:, column] > 0)
        ratio = seen[rows, column] / predicted[rows, column]
        ratios.append(float(np.quantile(ratio, 0.95)) if rows.any() else 1.0)
    return np.asarray(np.maximum(ratios, 1.0))


def _prompt_line(table: OutcomeTable) -> tuple[float, float]:
    length = np.array([len(text) for text in table.texts], dtype=np.float64)
    prompt = table.prompt_tokens.max(axis=1)
    spread = float(((length - length.mean()) ** 2).sum())
    slope = float(((length - length.mean()) * (prompt - prompt.mean())).sum()) / spread if spread > 0 else 0.0
    slope = max(slope, 0.0)
    return max(float(prompt.mean() - slope * length.mean()), 0.0), slope


def _standard(features: FeatureRow) -> tuple[Array, Array]:
    scale = features.std(axis=0, dtype=np.float64)
    return features.mean(axis=0, dtype=np.float64), np.where(scale > 1e-6, scale, 1.0)


def _normalised(weight: Array) -> Array:
    """Weights with mean one over what was observed, so that shrinkage means the same for every log."""
    observed = weight > 0
    return np.asarray(weight / max(float(weight[observed].mean()) if observed.any() else 1.0, 1e-12))
