"""Promises for a bundle from the log of another router whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rheostat.data.errors import DatasetError
from rheostat.training.guarantee_live import certify_live
from rheostat.training.ope_log import LiveLog
from tests.training.make import bundle, table

PROPENSITY = 0.5


def live(n: int, *, seed: int = 0, tiers: tuple[str, ...] = ("balanced",)) -> LiveLog:
    """An even coin chose: cheap is right on easy questions only, dear 9 times in 10 everywhere."""
    rng = np.random.default_rng(seed)
    whole = table(n)
    taken = np.eye(2)[rng.integers(0, 2, n)]
    reward = np.stack([whole.reward[:, 0], rng.random(n) < 0.9], axis=1)
    texts = tuple(f"{text} {i}" for i, text in enumerate(whole.texts))
    partial = replace(whole, texts=texts, reward=reward * taken, weight=taken / PROPENSITY)
    return LiveLog(partial, tuple(tiers[i % len(tiers)] for i in range(n)), {"used": n})


def test_a_target_within_reach_is_promised_with_a_multiplier(tmp_path):
    found = certify_live(live(2000), bundle(tmp_path, knows=True), prices={}, target=0.85)
    assert found.certificate.feasible
    assert found.multiplier_usd is not None
    assert found.smallest_propensity == PROPENSITY
    assert found.certificate.low >= 0.85


def test_a_target_beyond_reach_is_infeasible_and_says_what_is_attainable(tmp_path):
    found = certify_live(live(2000), bundle(tmp_path, knows=True), prices={}, target=0.99)
    assert (found.certificate.feasible, found.multiplier_usd) == (False, None)
    assert 0.8 < found.certificate.low < found.certificate.accuracy < 1


def test_promises_are_broken_at_most_delta_of_the_time(tmp_path):
    """Easy half right always, the other 0.9: no policy of this bundle reaches .96, so every promise of it is broken."""
    router = bundle(tmp_path, knows=True)
    broken = [certify_live(live(300, seed=seed), router, prices={}, target=0.96).certificate.feasible for seed in range(40)]
    assert np.mean(broken) <= 0.1 + 2 * np.sqrt(0.09 / 40)


def test_questions_asked_again_and_again_are_promised_no_more_than_once(tmp_path):
    """Three easy questions of four, asked five hundred times each: of all questions the cheap action is right on half."""
    few = live(2000).table.rows(np.tile([0, 2, 4, 1], 500))
    taken = np.eye(2)[np.random.default_rng(0).integers(0, 2, 2000)]
    log = LiveLog(replace(few, reward=taken, weight=taken / PROPENSITY), ("balanced",) * 2000, {"used": 2000})
    found = certify_live(log, bundle(tmp_path, knows=True), prices={}, target=0.8)
    assert (found.rows, found.certificate.feasible) == (4, False)


def test_tiers_are_promised_one_by_one(tmp_path):
    found = certify_live(live(2000, tiers=("deep", "quick")), bundle(tmp_path, knows=True), prices={}, target=0.8)
    assert set(found.tiers) == {"deep", "quick"}
    assert sum(tier.rows for tier in found.tiers.values()) == found.rows == 2000
    # Every other question is hard, and they are all asked in the quick tier.
    assert found.tiers["deep"].certificate.accuracy > found.tiers["quick"].certificate.accuracy


@pytest.mark.parametrize("propensity", [0.0, 0.6])
def test_a_smallest_propensity_that_the_log_contradicts_is_refused(propensity, tmp_path):
    with pytest.raises(DatasetError, match=r"the log has one of 0\.5"):
        certify_live(live(100), bundle(tmp_path, knows=True), prices={}, target=0.8, smallest_propensity=propensity)
