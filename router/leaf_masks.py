"""Trees over queries and actions, asked for all actions of a query at once.

A node rules leaves out, wherever it stands in its tree: so all nodes are asked together, and the leftmost leaf that none
of them ruled out is the one a row comes to. What nodes say of an action is known beforehand, so that a query is held
against each node once and not once an action. Source: QuickScorer (Lucchese et al. 2015). Knows nothing of learners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array
from rheostat.router.trees import Nodes, Trees

MAX_LEAVES = 64  # a leaf is a bit
BLOCK = 64  # queries at once, so that what is worked on fits into a cache

Bits = npt.NDArray[Any]  # unsigned, as wide as the leaves need
Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class LeafMasks:
    """`t` trees of at most `m` nodes that look at a query; bit i is the i-th leaf of a tree from the left.

    Attributes:
        n_columns: q, of a query.
        feature: (m, t) column of the query that a node looks at.
        threshold: (m, t) a value up to it rules nothing out.
        kept: (m, t) the leaves that any other value leaves in reach.
        by_action: (a, t) the leaves that the nodes over an action leave in reach.
        first: (t,) where a tree's leaves begin in `value`.
        value: what a leaf adds.
    """

    n_columns: int
    feature: Nodes
    threshold: Array
    kept: Bits
    by_action: Bits
    first: Nodes
    value: Array

    @classmethod
    def of(cls, trees: Trees, actions: Values, *, n_features: int) -> LeafMasks:
        """The masks of trees over rows that end in the columns of an action.

        Args:
            trees: over `n_features` columns.
            actions: (a, f) the last f columns, of every action.
            n_features: q + f.

        Raises:
            ValueError: a node leads nowhere, or a tree has more than `MAX_LEAVES` leaves.
        """
        trees.check(n_features)
        grown = [_marked(trees, number) for number in range(len(trees.feature))]
        n_columns = n_features - actions.shape[1]
        over_query = [[node for node in tree.nodes if node.feature < n_columns] for tree in grown]
        bits = _narrowest(max(len(tree.values) for tree in grown))
        feature, threshold, kept = _laid_out(over_query, bits)
        return cls(
            n_columns=n_columns,
            feature=feature,
            threshold=threshold,
            kept=kept,
            by_action=np.array([[_in_reach(tree, action, n_columns) for tree in grown] for action in actions], dtype=bits),
            first=np.cumsum([0, *(len(tree.values) for tree in grown[:-1])], dtype=np.int32),
            value=np.concatenate([tree.values for tree in grown]),
        )

    def __call__(self, queries: Values) -> Array:
        """(n, a) values of (n, q) queries, which must hold no NaN."""
        blocks = (self._block(queries[at : at + BLOCK]) for at in range(0, len(queries), BLOCK))
        return np.concatenate([np.zeros((0, len(self.by_action))), *blocks])

    def _block(self, queries: Values) -> Array:
        rules_nothing_out = queries[:, self.feature] <= self.threshold
        in_reach = np.bitwise_and.reduce(np.where(rules_nothing_out, ~self.kept.dtype.type(0), self.kept), axis=1)
        left = in_reach[:, None, :] & self.by_action
        # The zeros behind the lowest bit: the leaf's number.
        leaf = np.bitwise_count(~left & (left - self.kept.dtype.type(1)))
        return np.asarray(self.value[self.first + leaf].sum(axis=2))


class _Node(NamedTuple):
    """An inner node, and the leaves to its left as bits."""

    feature: int
    threshold: float
    ruled_out: int


class _Marked(NamedTuple):
    """A tree: its inner nodes, and its leaves' values from the left."""

    nodes: list[_Node]
    values: Array


def _marked(trees: Trees, number: int) -> _Marked:
    feature, threshold, left, right, value = (
        part[number].tolist() for part in (trees.feature, trees.threshold, trees.left, trees.right, trees.value)
    )
    nodes: list[_Node] = []
    values: list[float] = []

    def walk(at: int) -> None:
        if left[at] == at:
            values.append(value[at])
            if len(values) > MAX_LEAVES:
                raise ValueError(f"tree {number} has more than {MAX_LEAVES} leaves")
            return
        before = len(values)
        walk(left[at])
        nodes.append(_Node(feature[at], threshold[at], (1 << len(values)) - (1 << before)))
        walk(right[at])

    walk(0)
    return _Marked(nodes, np.array(values))


def _narrowest(n_bits: int) -> npt.DTypeLike:
    return next(bits for bits in (np.uint16, np.uint32, np.uint64) if n_bits <= np.iinfo(bits).bits)


def _laid_out(trees: list[list[_Node]], bits: npt.DTypeLike) -> tuple[Nodes, Array, Bits]:
    """The nodes of every tree as a column; what is missing in one rules nothing out."""
    shape = (max(1, *map(len, trees)), len(trees))
    feature, threshold, kept = np.zeros(shape, np.int32), np.zeros(shape), ~np.zeros(shape, bits)
    for number, nodes in enumerate(trees):
        for at, node in enumerate(nodes):
            feature[at, number], threshold[at, number] = node.feature, node.threshold
            kept[at, number] = ~kept.dtype.type(node.ruled_out)
    return feature, threshold, kept


def _in_reach(tree: _Marked, action: Values, n_columns: int) -> int:
    """The leaves that the nodes over an action's columns rule out for it are gone."""
    left = (1 << len(tree.values)) - 1
    for node in tree.nodes:
        if node.feature >= n_columns and action[node.feature - n_columns] > node.threshold:
            left &= ~node.ruled_out
    return left
