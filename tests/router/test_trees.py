from __future__ import annotations

import numpy as np
import pytest

from rheostat.router.trees import Trees


def stump() -> Trees:
    """x1 <= 0.5 gives 1, else 2; and a tree that is one leaf of 10."""
    return Trees(
        feature=np.array([[1, 0, 0], [0, 0, 0]], np.int32),
        threshold=np.array([[0.5, 0, 0], [0, 0, 0.0]]),
        left=np.array([[1, 1, 2], [0, 1, 2]], np.int32),
        right=np.array([[2, 1, 2], [0, 1, 2]], np.int32),
        value=np.array([[0.0, 1.0, 2.0], [10.0, 0.0, 0.0]]),
    )


def test_every_tree_adds_its_leaf():
    np.testing.assert_array_equal(stump()(np.array([[9.0, 0.5], [9.0, 0.6]])), [11.0, 12.0])


def test_no_rows_have_no_values():
    assert stump()(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize(("part", "value"), [("left", 7), ("left", -1), ("right", 0), ("feature", 2), ("feature", -1)])
def test_a_node_that_leads_nowhere_is_refused(part, value):
    trees = stump()
    trees.check(2)
    getattr(trees, part)[0, 0] = value
    with pytest.raises(ValueError, match="leads nowhere"):
        trees.check(2)
