"""The check of the guarantee, on simulated worlds."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.training.guarantee_check import SEGMENTS, Pool, allowed_miss_rate, check_guarantee, promised
from tests.training.fitting import PRICES, WordEncoder, simulated_table

TARGET = 0.5


@functools.cache
def check(target: float = TARGET):
    table = simulated_table()
    return check_guarantee(table, WordEncoder(), target=target, prices=PRICES, segments=table.datasets, splits=60, n_fits=2)


def pool(n: int = 3000, seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    truth = np.linspace(0.5, 0.9, 80)
    return Pool((rng.random((n, 1)) < truth).astype(float), np.tile(truth, (n, 1)), np.arange(n), np.arange(n))


def test_promises_hold_without_waste_and_the_plug_in_does_not_hold():
    promises = promised(pool(), 0.7, 0.1, splits=400, binary=True, seed=1)
    miss = (promises.accuracy < 0.7).mean()
    assert miss <= allowed_miss_rate(0.1, n_calibration=600, n_test=2400, splits=400)
    assert 0.3 < (promises.plugin_accuracy < 0.7).mean() < 0.7
    assert 0 < promises.accuracy.mean() - 0.7 <= 2 * math.sqrt(0.7 * 0.3 / 600)
    assert (promises.cost >= promises.plugin_cost).all()


def test_an_endless_test_leaves_delta_and_chance():
    assert allowed_miss_rate(0.1, n_calibration=1, n_test=1e12, splits=10**9) == pytest.approx(0.1, abs=1e-4)
    assert allowed_miss_rate(0.1, n_calibration=1, n_test=1, splits=10**9) > 0.15


def test_equal_texts_stay_on_one_side():
    twins = pool(400)
    twins = Pool(twins.reward, twins.cost, np.repeat(np.arange(200), 2), twins.row)
    promises = promised(twins, 0.6, 0.1, splits=5, binary=True, seed=0)
    assert (promises.n_calibration == 80).all()


def test_check_on_a_table_keeps_its_promise():
    found = check()
    assert found.splits == 60
    assert found.n_train + found.n_calibration + found.n_test == pytest.approx(len(simulated_table()), abs=2)
    assert found.miss_rate <= found.miss_rate_allowed
    assert found.excess == pytest.approx(found.mean_accuracy - TARGET)
    assert found.infeasible_rate <= 1


def test_where_nothing_costs_anything_no_cost_is_compared():
    table = simulated_table()
    free = {model: Price(usd_per_1m_output=0.0) for model in PRICES}
    assert check_guarantee(table, WordEncoder(), target=0.3, prices=free, splits=4, n_fits=1).cost_ratio_vs_plugin is None


def test_a_target_beyond_reach_is_infeasible_in_every_split():
    found = check(0.99)
    assert found.infeasible_rate == 1.0
    assert (found.miss_rate, found.mean_accuracy, found.cost_ratio_vs_plugin) == (0.0, None, None)
    assert found.attainable < 0.99


def test_each_segment_is_promised_by_itself_and_the_hopeless_one_is_infeasible():
    segments = check().segments
    assert set(segments) == set(simulated_table().datasets)
    assert segments["hopeless"].infeasible_rate == 1.0
    assert not segments["hopeless"].certificate.feasible
    assert segments["hopeless"].attainable < TARGET
    assert segments["lookup"].infeasible_rate == 0.0
    assert segments["lookup"].certificate.feasible
    assert all(each.miss_rate <= each.miss_rate_allowed for each in segments.values())


def test_segments_too_small_to_prove_anything_are_listed_with_their_size():
    table = simulated_table()
    segments = ["rare" if i < 12 else "common" for i in range(len(table))]
    found = check_guarantee(table, WordEncoder(), target=0.9, segments=segments, splits=4, n_fits=1)
    assert found.too_small == {"rare": 12}
    assert set(found.segments) == {"common"}


def test_a_table_can_be_segmented_by_what_it_says_of_its_queries():
    table = simulated_table().rows(np.arange(5))
    assert list(SEGMENTS["dataset"](table)) == list(table.datasets)
    assert set(SEGMENTS["kind"](table)) <= {"number", "choice", "yesno", "text"}
    assert [len(SEGMENTS[name](table)) for name in ("level", "none")] == [5, 0]


@pytest.mark.parametrize("options", [{"target": 1.0}, {"target": 0.5, "delta": 1.5}])
def test_levels_outside_the_unit_interval_are_refused(options):
    with pytest.raises(DatasetError, match="between 0 and 1"):
        check_guarantee(simulated_table(), WordEncoder(), **options)


def test_too_few_different_questions_are_refused():
    table = simulated_table().rows(np.arange(60))
    with pytest.raises(DatasetError, match="different questions"):
        check_guarantee(table, WordEncoder(), target=0.5)
