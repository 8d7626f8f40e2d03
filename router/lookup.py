"""Learners that look up what similar queries gave: the nearest cluster, or the data sets a text looks like.

Tables of logits, weighed by nearness or by resemblance: cheap, and hard to beat where queries come in kinds.
Sources: k-means table as in Zhang et al. 2025 (Avengers-Pro).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rheostat.router.base import Array, FeatureRow
from rheostat.router.calibration import clamp, logit


@dataclass(frozen=True, slots=True)
class Clusters:
    """The mean reward in the nearest cluster.

    Attributes:
        centroids: (c, dimension) of the embeddings.
        table: (c, a) logits.
    """

    centroids: FeatureRow
    table: Array

    def logits(self, features: FeatureRow) -> Array:
        """(n, a) logits of (n, d) rows, whose first columns are the embedding."""
        embeddings = features[:, : self.centroids.shape[1]]
        # Nearest by squared distance; the row's own norm is the same for all centroids.
        distance = (self.centroids**2).sum(axis=1) - 2 * (embeddings @ self.centroids.T)
        return np.asarray(self.table[distance.argmin(axis=1)])


@dataclass(frozen=True, slots=True)
class Segments:
    """The data sets' mean rewards, each weighing as much as the text looks like it: a new text needs no label.

    Attributes:
        mean, scale: (d,) of the training features.
        weights: (d, s) of a softmax over data sets.
        bias: (s,).
        means: (s, a) mean rewards.
    """

    mean: Array
    scale: Array
    weights: Array
    bias: Array
    means: Array

    def logits(self, features: FeatureRow) -> Array:
        """(n, a) logits of (n, d) rows."""
        raw = clamp((features - self.mean) / self.scale, -6.0, 6.0) @ self.weights + self.bias
        share = np.exp(raw - raw.max(axis=1, keepdims=True))
        return logit(share / share.sum(axis=1, keepdims=True) @ self.means)
