"""Simulated outcomes."""

from __future__ import annotations

import numpy as np

from benchmarks.simulated import TEMPLATES, simulated


def test_every_outcome_is_known_and_actions_differ():
    table = simulated(2000, 10, seed=0)
    assert table.known_in_full.all()
    assert len(set(table.actions)) == 10
    accuracy = table.reward.mean(axis=0)
    assert accuracy.max() - accuracy.min() > 0.2


def test_the_text_tells_something_about_the_reward():
    table = simulated(4000, 6, seed=1)
    kinds = np.array(table.datasets)
    means = [table.reward[kinds == kind].mean() for kind in sorted(set(table.datasets))]
    assert len(means) == len(TEMPLATES)
    assert np.std(means) > 0.05


def test_a_seed_gives_the_same_table():
    assert simulated(300, 4, seed=2).digest == simulated(300, 4, seed=2).digest
