"""Small networks: what is handed over, and what averaging them gives."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rheostat.router.calibration import sigmoid
from rheostat.router.sequential import Network
from rheostat.training.networks import Fitting, averaged
from rheostat.training.neural import network_logits
from tests.training.test_stack import training_set


def random_network(seed: int, *widths: int) -> Network:
    rng = np.random.default_rng(seed)
    weights = tuple(rng.normal(size=shape).astype(np.float32) for shape in itertools.pairwise(widths))
    return Network(weights, tuple(rng.normal(size=width).astype(np.float32) for width in widths[1:]))


@pytest.mark.parametrize("widths", [(4, 3), (4, 6, 3), (4, 6, 5, 3)])
def test_averaged_network_gives_the_mean_of_its_members(widths):
    members = [random_network(seed, *widths) for seed in range(3)]
    rows = np.random.default_rng(9).normal(size=(7, 4)).astype(np.float32)
    assert averaged(members)(rows) == pytest.approx(np.mean([member(rows) for member in members], axis=0), abs=1e-4)


def test_members_may_differ_in_width():
    members = [random_network(0, 4, 6, 5, 2), random_network(1, 4, 3, 8, 2)]
    rows = np.ones((2, 4), dtype=np.float32)
    assert averaged(members)(rows) == pytest.approx(np.mean([member(rows) for member in members], axis=0), abs=1e-4)


def test_fitting_starts_at_the_biases_it_is_given():
    rows = np.zeros((5, 2), dtype=np.float32)
    network = Fitting((2, 3), seed=0, start=np.array([1.0, -2.0, 0.5])).network
    assert network(rows) == pytest.approx(np.tile([1.0, -2.0, 0.5], (5, 1)))


def test_fitting_leaves_unknown_targets_out():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(512, 2)).astype(np.float32)
    target = np.stack([np.full(512, 3.0), np.full(512, 100.0)], axis=1)
    known = np.array([[1.0, 0.0]]).repeat(512, axis=0)
    fitting = Fitting((2, 8, 2), seed=0, dropout=0.0)
    for _ in range(60):
        fitting.epoch(rows, target, known, rate=0.01)
    out = fitting.network(rows)
    assert out[:, 0].mean() == pytest.approx(3.0, abs=0.3)
    assert abs(out[:, 1]).max() < 20


def fitted(epochs: int = 40) -> Network:
    fitting = Fitting((3, 4, 1), seed=5, dropout=0.2)
    for _ in range(epochs):
        fitting.epoch(np.eye(3, dtype=np.float32), np.ones((3, 1)), np.ones((3, 1)), rate=0.01)
    return fitting.network


def test_same_seed_gives_the_same_network_also_when_others_are_fitted_at_once():
    with ThreadPoolExecutor(3) as pool:
        networks = [future.result() for future in [pool.submit(fitted) for _ in range(3)]]
    for network in networks:
        assert all((a == b).all() for a, b in zip(network.weights, fitted().weights, strict=True))


def test_network_over_all_actions_tells_easy_from_hard():
    train, new = training_set(), training_set(100, seed=1)
    p = sigmoid(network_logits(train, new.features, 0))
    hard = np.array(["hard" in text for text in new.table.texts])
    assert p[~hard, 0].mean() > 0.8
    assert p[hard, 0].mean() < 0.4
