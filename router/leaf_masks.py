"""Trees over queries and actions, asked for all actions of a query at once.

A node rules leaves out, wherever it stands in its tree: so all nodes are asked together, and the leftmost leaf that none
of them ruled out is the one a row comes to. What nodes say of an action is known beforehand, so that a query is held
against each node once and not once an action, and actions that a tree does not tell apart come to one leaf together.
Source: QuickScorer (Lucchese et al. 2015). Knows nothing of learners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array, FeatureRow
from rheostat.router.trees import Trees

MAX_LEAVES = 64  # a leaf is a bit
BLOCK = 64  # queries at once, so that what is worked on fits into a cache

Bits = npt.NDArray[Any]  # unsigned, as wide as the leaves need
Positions = npt.NDArray[np.intp]
Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class LeafMasks:
    """`t` trees of at most `m` nodes that look at a query; bit i is the i-th leaf of a tree from the left.

    What a tree makes of a query is asked `u` times in all: once for each set of actions that it does not tell apart.

    Attributes:
        n_columns: q, of a query.
        feature: (m, t) column of the query that a node looks at.
        threshold: (m, t) a value above it rules leaves out.
        ruled_out: (m, t) which.
        tree: (u,) that is asked.
        in_reach: (u,) the leaves that its nodes over the actions of the set leave in reach.
        before: (u,) where its leaves begin in `value`, less one.
        asked: (a, t) where, of the u, stands what a tree makes of an action.
        value: what a leaf adds.
    """

    n_columns: int
    feature: Positions
    threshold: FeatureRow
    ruled_out: Bits
    tree: Positions
    in_reach: Bits
    before: Positions
    asked: Positions
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
        feature, threshold, ruled_out = _laid_out(over_query, bits)
        sets = _told_apart([[_in_reach(tree, action, n_columns) for action in actions.tolist()] for tree in grown])
        first = np.cumsum([0, *(len(tree.values) for tree in grown[:-1])])
        return cls(
            n_columns=n_columns,
            feature=feature,
            threshold=threshold,
            ruled_out=ruled_out,
            tree=sets.tree,
            in_reach=np.array(sets.in_reach, dtype=bits),
            before=first[sets.tree] - 1,
            asked=sets.asked,
            value=np.concatenate([tree.values for tree in grown]),
        )

    def __call__(self, queries: FeatureRow) -> Array:
        """(n, a) values of (n, q) queries, which must hold no NaN."""
        if len(queries) <= BLOCK:
            return self._block(queries)
        return np.concatenate([self._block(queries[at : at + BLOCK]) for at in range(0, len(queries), BLOCK)])

    def _block(self, queries: FeatureRow) -> Array:
        is_above = queries.take(self.feature, axis=1) > self.threshold
        # A product with a truth value is a third of the time that np.where takes.
        ruled_out = np.bitwise_or.reduce(is_above * self.ruled_out, axis=1)
        left = self.in_reach & ~ruled_out.take(self.tree, axis=1)
        # The lowest bit and the zeros behind it: the leaf's number, from one.
        leaf = np.bitwise_count(left ^ (left - self.in_reach.dtype.type(1)))
        return np.asarray(self.value.take(self.before + leaf).take(self.asked, axis=1).sum(axis=2))


class _Node(NamedTuple):
    """An inner node, and the leaves to its left as bits."""

    feature: int
    threshold: float
    ruled_out: int


class _Marked(NamedTuple):
    """A tree: its inner nodes, and its leaves' values from the left."""

    nodes: list[_Node]
    values: Array


class _Sets(NamedTuple):
    """Actions that a tree does not tell apart: (u,) the tree and the leaves in their reach, and (a, t) which set an action is in."""

    tree: Positions
    in_reach: tuple[int, ...]
    asked: Positions


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


def _laid_out(trees: list[list[_Node]], bits: npt.DTypeLike) -> tuple[Positions, FeatureRow, Bits]:
    """The nodes of every tree as a column; what is missing in one rules nothing out."""
    shape = (max(1, *map(len, trees)), len(trees))
    feature, threshold, ruled_out = np.zeros(shape, np.intp), np.zeros(shape), np.zeros(shape, bits)
    for number, nodes in enumerate(trees):
        for at, node in enumerate(nodes):
            feature[at, number], threshold[at, number], ruled_out[at, number] = node
    return feature, _rounded_down(threshold), ruled_out


def _rounded_down(thresholds: Array) -> FeatureRow:
    """Single-precision numbers that the same single-precision numbers lie above."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _told_apart(by_tree: list[list[int]]) -> _Sets:
    """The sets of actions by which leaves are in reach, of every tree and action."""
    place: dict[tuple[int, int], int] = {}
    asked = [[place.setdefault((number, leaves), len(place)) for leaves in by_action] for number, by_action in enumerate(by_tree)]
    tree, in_reach = zip(*place, strict=True)
    return _Sets(np.array(tree), in_reach, np.ascontiguousarray(np.transpose(asked)))


def _in_reach(tree: _Marked, action: list[float], n_columns: int) -> int:
    """The leaves that the nodes over an action's columns rule out for it are gone."""
    left = (1 << len(tree.values)) - 1
    for node in tree.nodes:
        if node.feature >= n_columns and action[node.feature - n_columns] > node.threshold:
            left &= ~node.ruled_out
    return left
