"""Predictors that look up what happened to similar queries: neighbours, clusters, data sets. Logits out, as learners give.

All draw their means to the action's overall mean by a few pseudo-queries, so that a small cell does not shout. They are
for backtests and stacks; serving them would mean shipping the training queries.
Sources: kNN routing as in Hu et al. 2024 (RouterBench); k-means table as in Zhang et al. 2025 (Avengers-Pro).
"""

from __future__ import annotations

import numpy as np

from rheostat.router.base import Array, FeatureRow
from rheostat.router.calibration import clamp, logit
from rheostat.training.learners import TrainingSet, action_means, data_sets

NEIGHBOURS = 60
SHARPNESS = 8.0
CLUSTERS = 64
PRIOR_NEIGHBOURS = 8.0
PRIOR_CLUSTER = 5.0
SEGMENT_RIDGE = 0.3
_BATCH = 1024


def knn_logits(train: TrainingSet, features: FeatureRow, seed: int = 0) -> Array:
    """(m, a) logits of the mean reward of the nearest queries, nearer ones counting more (e^(8 cosine))."""
    del seed
    index = train.features[:, : train.dimension]
    prior, k = action_means(train.table), min(NEIGHBOURS, len(index))
    rows = []
    for start in range(0, len(features), _BATCH):
        similar = features[start : start + _BATCH, : train.dimension] @ index.T
        near = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        weight = np.exp(SHARPNESS * (np.take_along_axis(similar, near, axis=1) - 1.0))
        # Weights sum to k: the prior counts the same however near the neighbours are.
        weight *= k / weight.sum(axis=1, keepdims=True)
        total = np.einsum("nk,nka->na", weight, train.table.reward[near])
        rows.append((total + PRIOR_NEIGHBOURS * prior) / (k + PRIOR_NEIGHBOURS))
    return logit(np.concatenate(rows))


def kmeans_logits(train: TrainingSet, features: FeatureRow, seed: int = 0) -> Array:
    """(m, a) logits of the mean reward in the nearest cluster of embeddings."""
    from sklearn.cluster import KMeans

    embeddings = np.ascontiguousarray(train.features[:, : train.dimension])
    n_clusters = max(1, min(CLUSTERS, len(embeddings) // 10, len(np.unique(embeddings, axis=0))))
    clusters = KMeans(n_clusters, n_init=1, max_iter=40, random_state=seed).fit(embeddings)
    table = group_means(train, clusters.labels_, n_clusters)
    return logit(table[clusters.predict(np.ascontiguousarray(features[:, : train.dimension]))])


def segment_logits(train: TrainingSet, features: FeatureRow, seed: int = 0) -> Array:
    """(m, a) logits of data-set means, each query weighing the data sets as its text suggests: it needs no label."""
    from sklearn.linear_model import LogisticRegression

    del seed
    codes = data_sets(train.table)
    means = group_means(train, codes, int(codes.max()) + 1)
    if len(means) == 1:
        return logit(np.repeat(means, len(features), axis=0))
    rows, new = standardised(train.features, features)
    model = LogisticRegression(C=SEGMENT_RIDGE, max_iter=500, tol=1e-2).fit(rows, codes)
    return logit(model.predict_proba(new) @ means)


def standardised(train: FeatureRow, new: FeatureRow) -> tuple[FeatureRow, FeatureRow]:
    """Both with the training rows' means and deviations taken out, and far values drawn in."""
    mean, scale = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    first, second = (np.asarray(clamp((rows - mean) / scale, -6, 6), dtype=np.float32) for rows in (train, new))
    return first, second


def group_means(train: TrainingSet, codes: np.ndarray[tuple[int, ...], np.dtype[np.intp]], n_groups: int) -> Array:
    """(n_groups, a) mean reward of each group, drawn to the overall mean."""
    member = np.eye(n_groups)[codes]
    total = member.T @ train.table.reward + PRIOR_CLUSTER * action_means(train.table)
    return np.asarray(total / (member.sum(axis=0)[:, None] + PRIOR_CLUSTER))
