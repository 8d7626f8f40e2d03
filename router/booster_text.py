"""LightGBM's model file to plain arrays, so that whoever serves a model needs no LightGBM and no native parser.

Strict: a file that says more than `Trees` can (categories, linear leaves, zero as a missing value, several classes) or
less than it announces is refused. Format: what LightGBM 4 writes (version v4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import BundleError
from rheostat.router.base import Array
from rheostat.router.trees import Nodes, Trees

VERSION = "v4"
_TREE = re.compile(r"(?m)^Tree=\d+\n")
_END = "\nend of trees"
_CATEGORICAL, _MISSING, _MISSING_ZERO = 1, 12, 4  # bits of a decision type


class _Tree(NamedTuple):
    """One tree: the parts of `Trees` without padding; its inner nodes, then its leaves."""

    feature: Nodes
    threshold: Array
    left: Nodes
    right: Nodes
    value: Array


class Booster(NamedTuple):
    """What a model file holds; the trees' sum over a row of `n_features` numbers is LightGBM's raw score."""

    trees: Trees
    n_features: int


def parse_booster(text: str) -> Booster:
    """The trees in a model file.

    Raises:
        BundleError: the text is no such file, or needs more than numerical splits.
    """
    body, end, _ = text.partition(_END)
    head, *parts = _TREE.split(body)
    try:
        fields = _fields(head)
        _check_head(fields, len(parts) if end else 0)
        trees, n_features = _stacked([_tree(_fields(part)) for part in parts]), int(fields["max_feature_idx"]) + 1
        trees.check(n_features)
        return Booster(trees, n_features)
    except KeyError as error:
        raise BundleError(f"the trees do not parse (no {error}): fit the bundle again") from error
    except ValueError as error:
        raise BundleError(f"the trees do not parse ({error}): fit the bundle again") from error


def _fields(part: str) -> dict[str, str]:
    """The `name=value` lines of a part; a line without a value is one of the file's switches."""
    lines = (line.partition("=") for line in part.splitlines())
    return {name: value for name, _, value in lines}


def _check_head(head: Mapping[str, str], n_trees: int) -> None:
    if head["version"] != VERSION or head["num_tree_per_iteration"] != "1" or "average_output" in head:
        raise ValueError(f"only sums of single trees of version {VERSION} are read")
    announced = len(head["tree_sizes"].split())
    if not n_trees or announced != n_trees:
        raise ValueError(f"{n_trees} whole trees of {announced}")


def _tree(fields: Mapping[str, str]) -> _Tree:
    if fields["num_cat"] != "0" or fields.get("is_linear", "0") != "0":
        raise ValueError("a tree has categorical splits or linear leaves")
    n_leaves = int(fields["num_leaves"])
    value = _numbers(fields["leaf_value"], n_leaves)
    inner = n_leaves - 1
    if inner == 0:
        return _Tree(np.zeros(1, np.int32), np.zeros(1), np.zeros(1, np.int32), np.zeros(1, np.int32), value)
    _check_kinds(_whole(fields["decision_type"], inner))
    leaves = np.arange(inner, inner + n_leaves, dtype=np.int32)
    left, right = (_places(_whole(fields[side], inner), inner) for side in ("left_child", "right_child"))
    return _Tree(
        feature=np.concatenate([_whole(fields["split_feature"], inner), np.zeros(n_leaves, np.int32)]),
        threshold=np.concatenate([_numbers(fields["threshold"], inner), np.zeros(n_leaves)]),
        left=np.concatenate([left, leaves]),
        right=np.concatenate([right, leaves]),
        value=np.concatenate([np.zeros(inner), value]),
    )


def _check_kinds(kinds: Nodes) -> None:
    if (kinds & _CATEGORICAL).any() or ((kinds & _MISSING) == _MISSING_ZERO).any():
        raise ValueError("a split is categorical, or takes zero for a missing value")


def _places(children: Nodes, inner: int) -> Nodes:
    """Where children stand among all nodes; LightGBM counts leaves by the complement of their number."""
    return np.where(children >= 0, children, inner + ~children).astype(np.int32)


def _numbers(text: str, n: int) -> Array:
    numbers = np.array([float(each) for each in text.split()])
    if numbers.shape != (n,) or not np.isfinite(numbers).all():
        raise ValueError(f"{len(numbers)} numbers where {n} finite ones are due")
    return numbers


def _whole(text: str, n: int) -> npt.NDArray[np.int32]:
    numbers = np.array([int(each) for each in text.split()])
    if numbers.shape != (n,) or np.abs(numbers).max() > np.iinfo(np.int32).max:
        raise ValueError(f"{len(numbers)} whole numbers where {n} small ones are due")
    return numbers.astype(np.int32)


def _stacked(grown: list[_Tree]) -> Trees:
    """All trees in arrays of one width; what a tree has no node for is a leaf that is never reached."""
    t, m = len(grown), max(len(tree.value) for tree in grown)
    own = np.tile(np.arange(m, dtype=np.int32), (t, 1))
    trees = Trees(np.zeros((t, m), np.int32), np.zeros((t, m)), own, own.copy(), np.zeros((t, m)))
    for number, tree in enumerate(grown):
        for name, part in tree._asdict().items():
            getattr(trees, name)[number, : len(part)] = part
    return trees
