from __future__ import annotations

import numpy as np
import pytest

from rheostat.router.calibration import logit
from rheostat.router.lookup import Clusters, Segments


def test_a_query_has_the_table_of_its_nearest_cluster():
    clusters = Clusters(np.array([[1.0, 0.0], [0.0, 2.0]], np.float32), np.array([[1.0, 2.0], [3.0, 4.0]]))
    rows = np.array([[0.9, 0.1, 7.0], [0.1, 1.9, 7.0]], np.float32)
    np.testing.assert_array_equal(clusters.logits(rows), [[1.0, 2.0], [3.0, 4.0]])


def test_data_sets_weigh_as_much_as_the_text_looks_like_them():
    means = np.array([[0.2], [0.8]])
    segments = Segments(np.zeros(1), np.ones(1), np.array([[5.0, -5.0]]), np.zeros(2), means)
    found = segments.logits(np.array([[6.0], [0.0], [-6.0]], np.float32))
    np.testing.assert_allclose(found[:, 0], logit(np.array([0.2, 0.5, 0.8])), atol=1e-6)


def test_one_data_set_is_its_means():
    segments = Segments(np.zeros(2), np.ones(2), np.zeros((2, 1)), np.zeros(1), np.array([[0.3, 0.6]]))
    assert segments.logits(np.ones((1, 2), np.float32))[0] == pytest.approx(logit(np.array([0.3, 0.6])))
