"""Boosted regression trees as plain arrays: inference only, on numpy, with no model file to parse and nothing to crash.

Small ensembles on few rows, as a decision between two waves needs. Knows nothing of how the trees were grown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array

Nodes = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Trees:
    """`t` trees of at most `m` nodes, node 0 being the root; all arrays are (t, m).

    Attributes:
        feature: column that a node looks at.
        threshold: a value up to it goes left.
        left, right: the next node; a leaf is its own.
        value: what a leaf adds.
    """

    feature: Nodes
    threshold: Array
    left: Nodes
    right: Nodes
    value: Array

    def __call__(self, rows: Array) -> Array:
        """(n,) values of (n, f) rows, which must hold no NaN."""
        t, m = self.feature.shape
        feature, threshold, left, right = (part.ravel() for part in (self.feature, self.threshold, self.left, self.right))
        root = np.arange(t) * m
        each, at = np.arange(len(rows))[:, None], np.broadcast_to(root, (len(rows), t))
        while True:
            goes_left = rows[each, feature[at]] <= threshold[at]
            after = root + np.where(goes_left, left[at], right[at])
            if (after == at).all():
                return np.asarray(self.value.ravel()[at].sum(axis=1))
            at = after

    def check(self, n_features: int) -> None:
        """Make sure that every row of `n_features` numbers comes to a leaf.

        Raises:
            ValueError: a node points outside the tree or backwards, or looks at a column that is not there.
        """
        m = self.feature.shape[1]
        own = np.arange(m)
        leaf = (self.left == own) & (self.right == own)
        onward = (self.left > own) & (self.right > own) & (self.left < m) & (self.right < m)
        if not (leaf | onward).all() or self.feature.min() < 0 or self.feature.max() >= n_features:
            raise ValueError(f"trees over {n_features} features have a node that leads nowhere")
