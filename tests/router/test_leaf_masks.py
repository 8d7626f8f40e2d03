"""Trees asked for all actions at once give what asking them row by row gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.router.leaf_masks import BLOCK, MAX_LEAVES, LeafMasks
from rheostat.router.trees import Trees

QUERY, ACTION = 3, 2


def grow(draw_inner, rng, n_leaves: int, width: int) -> list[list[float]]:
    """The nodes (feature, threshold, left, right, value) of a random tree, children behind their parents."""
    nodes = [[0, 0.0, 0, 0, 0.0]]
    open_leaves = [0]
    for _ in range(n_leaves - 1):
        at = open_leaves.pop(draw_inner(len(open_leaves)))
        left, right = len(nodes), len(nodes) + 1
        # Also just beside a number that single precision has: a row may lie on a threshold, above or below it.
        threshold = float(rng.integers(-2, 3)) + float(rng.choice([-1e-9, 0.0, 1e-9]))
        nodes[at] = [int(rng.integers(width)), threshold, left, right, 0.0]
        nodes += [[0, 0.0, left, left, 0.0], [0, 0.0, right, right, 0.0]]
        open_leaves += [left, right]
    for leaf in open_leaves:
        nodes[leaf][4] = float(rng.normal())
    return nodes


def stacked(grown: list[list[list[float]]]) -> Trees:
    t, m = len(grown), max(map(len, grown))
    own = np.tile(np.arange(m), (t, 1))
    parts = [np.zeros((t, m)), np.zeros((t, m)), own.copy(), own.copy(), np.zeros((t, m))]
    for number, nodes in enumerate(grown):
        for part, values in zip(parts, zip(*nodes, strict=True), strict=True):
            part[number, : len(nodes)] = values
    feature, threshold, left, right, value = parts
    return Trees(feature.astype(np.int32), threshold, left.astype(np.int32), right.astype(np.int32), value)


def random_trees(seed: int, sizes: list[int], width: int = QUERY + ACTION) -> Trees:
    rng = np.random.default_rng(seed)
    return stacked([grow(lambda n: int(rng.integers(n)), rng, size, width) for size in sizes])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, MAX_LEAVES), min_size=1, max_size=6),
    n_queries=st.sampled_from([0, 1, 5, BLOCK + 1]),
    n_actions=st.integers(1, 4),
)
def test_all_actions_at_once_come_to_the_leaves_that_each_row_comes_to(seed, sizes, n_queries, n_actions):
    trees, rng = random_trees(seed, sizes), np.random.default_rng(seed + 1)
    queries = rng.integers(-3, 4, (n_queries, QUERY)).astype(np.float32)
    actions = rng.integers(-3, 4, (n_actions, ACTION)).astype(np.float32)
    rows = np.concatenate([np.repeat(queries, n_actions, axis=0), np.tile(actions, (n_queries, 1))], axis=1)

    together = LeafMasks.of(trees, actions, n_features=QUERY + ACTION)(queries)

    np.testing.assert_allclose(together, trees(rows).reshape(n_queries, n_actions), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("leaves", "bits"), [(16, 16), (17, 32), (33, 64), (64, 64)])
def test_masks_are_as_wide_as_the_leaves_need(leaves, bits):
    masks = LeafMasks.of(random_trees(0, [leaves]), np.zeros((1, ACTION)), n_features=QUERY + ACTION)
    assert masks.ruled_out.dtype.itemsize * 8 == bits


def test_more_leaves_than_bits_are_refused():
    with pytest.raises(ValueError, match="more than 64 leaves"):
        LeafMasks.of(random_trees(0, [MAX_LEAVES + 1]), np.zeros((1, ACTION)), n_features=QUERY + ACTION)


def test_nodes_that_share_their_children_are_refused_in_no_time():
    n = 40
    chain = np.arange(1, n + 1, dtype=np.int32)
    chain[-1] = n - 1
    trees = Trees(np.zeros((1, n), np.int32), np.zeros((1, n)), chain[None], chain[None], np.zeros((1, n)))
    with pytest.raises(ValueError, match="more than 64 leaves"):
        LeafMasks.of(trees, np.zeros((1, ACTION)), n_features=QUERY + ACTION)


def test_a_column_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="leads nowhere"):
        LeafMasks.of(random_trees(0, [8], width=QUERY + ACTION + 4), np.zeros((1, ACTION)), n_features=QUERY)
