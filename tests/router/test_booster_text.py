"""LightGBM's model file, read without LightGBM."""

from __future__ import annotations

import re

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import BundleError
from rheostat.router.booster_text import parse_booster
from rheostat.router.leaf_masks import LeafMasks

COLUMNS = 6
QUIET = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 2, "deterministic": True}


def fitted(seed: int, *, rounds: int = 4, **more: object) -> lightgbm.Booster:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(200, COLUMNS))
    rows[:, 2] = rng.integers(0, 2, 200)  # a column of zeros and ones, as statistics of texts are
    label = (rows[:, 0] + rows[:, 2] * rows[:, 5] > 0).astype(float)
    return lightgbm.train({**QUIET, "seed": seed, **more}, lightgbm.Dataset(rows, label), rounds)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    objective=st.sampled_from(["cross_entropy", "binary", "regression"]),
    leaves=st.integers(2, 40),
    rounds=st.integers(1, 12),
)
def test_the_trees_read_are_the_trees_lightgbm_predicts_with(seed, objective, leaves, rounds):
    booster = fitted(seed, rounds=rounds, objective=objective, num_leaves=leaves)
    trees, n_features = parse_booster(booster.model_to_string())
    rng = np.random.default_rng(seed + 1)
    queries, actions = rng.normal(size=(20, COLUMNS - 2)).astype(np.float32), rng.normal(size=(3, 2)).astype(np.float32)
    queries[:, 2] = rng.integers(0, 2, 20)
    rows = np.concatenate([np.repeat(queries, 3, axis=0), np.tile(actions, (20, 1))], axis=1)

    wanted = booster.predict(rows, raw_score=True, num_threads=1)

    assert n_features == COLUMNS
    np.testing.assert_allclose(trees(rows.astype(np.float64)), wanted, rtol=0, atol=1e-9)
    masked = LeafMasks.of(trees, actions, n_features=n_features)(queries)
    np.testing.assert_allclose(masked.ravel(), wanted, rtol=0, atol=1e-9)


def test_a_tree_without_splits_is_a_constant():
    rows = np.zeros((50, COLUMNS))
    booster = lightgbm.train(QUIET | {"objective": "regression"}, lightgbm.Dataset(rows, np.full(50, 3.0)), 1)
    trees, _ = parse_booster(booster.model_to_string())
    np.testing.assert_allclose(trees(rows[:2]), booster.predict(rows[:2]))


def test_what_trees_of_numbers_cannot_say_is_refused():
    categories = fitted(0).model_to_string().replace("num_cat=0", "num_cat=1")
    linear = fitted(0).model_to_string().replace("is_linear=0", "is_linear=1")
    zero = fitted(0, zero_as_missing=True).model_to_string()
    forest = fitted(0, boosting="rf", bagging_fraction=0.5, bagging_freq=1).model_to_string()
    for text, why in ((categories, "categorical"), (linear, "linear"), (zero, "missing"), (forest, "sums of single trees")):
        with pytest.raises(BundleError, match=why):
            parse_booster(text)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_file_cut_off_is_refused_wherever_it_ends(share):
    text = fitted(0).model_to_string().partition("\nend of trees")[0]
    with pytest.raises(BundleError, match="do not parse"):
        parse_booster(text[: int(share * len(text))])


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("version=v4", "version=v3"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=2"),
        ("max_feature_idx=5", "max_feature_idx=1"),
        (r"left_child=\S+", "left_child=0"),
        (r"right_child=\S+", "right_child=99999999999"),
        ("num_leaves=4", "num_leaves=5"),
        (r"leaf_value=\S+", "leaf_value=nan"),
        ("leaf_value=", "leaf="),
        (r"threshold=\S+", "threshold=x"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(line, changed):
    text = fitted(0, num_leaves=4).model_to_string()
    contradicting = re.sub(line, changed, text)
    assert contradicting != text
    with pytest.raises(BundleError, match="do not parse"):
        parse_booster(contradicting)
