"""A model's actions on the queries that they share: a choice among them is judged on queries it was not made on."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.training.sweep_grid import chosen_within, grid
from tests.training.test_sweep_page import FAMILIES, VOTES, row, rows


def test_a_run_that_failed_takes_its_query_out_and_not_its_action() -> None:
    missing = grid("small", rows()[1:])

    assert (len(missing.actions), len(missing.keys)) == (len(VOTES) + 1, len(FAMILIES) * 80 - 1)


def test_the_best_of_many_equal_actions_is_not_better_than_one() -> None:
    rng = np.random.default_rng(0)
    names = [f"m/cot(think={i})@64" for i in range(1, 60)]
    equal = [row(name, "x", q, correct=float(rng.random() < 0.5), tokens=10, price=1.0) for name in names for q in range(60)]
    held = grid("m", equal)
    got = chosen_within(held, np.ones(len(held.actions), dtype=bool), 1e9, np.arange(60) % 2)

    assert held.reward.mean(axis=0).max() > 0.62
    assert got.mean() == pytest.approx(0.5, abs=0.13)


def test_what_nobody_can_afford_is_never_right() -> None:
    held = grid("small", rows())

    assert chosen_within(held, np.ones(len(held.actions), dtype=bool), 1.0, np.arange(len(held.reward)) % 2).sum() == 0


def test_an_action_is_found_by_its_strategy_and_shape_whatever_its_cap() -> None:
    held = grid("small", rows())

    assert held.actions[held.find("self_consistency(k=4)")] == "small/self_consistency(k=4)@768"
    assert held.find("self_consistency") is None


def test_an_action_is_fair_that_asks_neither_another_model_nor_the_reference() -> None:
    own, others = ["cot", "verify(checker=m)"], ["verify(checker=other)", "best_of_n(by=verifier,n=2)", "best_of_n(by=likely,n=2)"]
    names = [f"m/{strategy}@64" for strategy in (*own, *others)]
    held = grid("m", [row(name, "x", 0, correct=1.0, tokens=1, price=1.0) for name in names])

    assert held.fair.tolist() == [True, True, False, False, False]
