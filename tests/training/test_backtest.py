"""Backtests of worlds where the right policy is known, and the command from outside."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.training.backtest import BacktestReport, backtest
from rheostat.training.lexicon import TextRows
from rheostat.training.logged import Logged
from rheostat.training.outcomes import OutcomeTable
from tests.training.fitting import WordEncoder
from tests.training.make import encoder as static_encoder

NAMES = {"rheostat", "fixed_hull", "segment_means", "knn", "kmeans", "logistic", "lightgbm", "threshold", "shuffled", "oracle"}
PRICES = {"small": Price(usd_per_1m_output=1.0), "large": Price(usd_per_1m_output=30.0)}


def logged(n: int = 600, seed: int = 0) -> Logged:
    """Easy questions that the small model answers best, hard ones that only the large one does, told apart by a word."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.4
    small = np.where(hard, 0.1, 0.98) > rng.random(n)
    large = np.where(hard, 0.9, 0.85) > rng.random(n)
    ones = np.ones((n, 2))
    table = OutcomeTable(
        query_ids=tuple(map(str, range(n))),
        texts=tuple(f"{'hard' if is_hard else 'easy'} question number {i}" for i, is_hard in enumerate(hard)),
        datasets=tuple(np.where(rng.random(n) < 0.5, "left", "right")),
        levels=(0,) * n,
        actions=("small/cot@100", "large/cot@100"),
        reward=np.stack([small, large], axis=1).astype(float),
        tokens=ones * 50,
        prompt_tokens=ones * 0,
        latency_s=ones,
        weight=ones,
    )
    return Logged(table, None, {})


def run(data: Logged, **options) -> BacktestReport:
    return backtest(data, TextRows.of(WordEncoder(), data.table.texts), prices=PRICES, **options)


@functools.cache
def report() -> BacktestReport:
    return run(logged())


def test_a_question_asked_again_is_judged_once():
    once = logged(200)
    table = once.table.rows(np.repeat(np.arange(200), 5))
    again = run(Logged(replace(table, query_ids=tuple(map(str, range(1000)))), None, {}))
    assert again.split.n_test == run(once).split.n_test
    assert again.split.n_train == 1000 - 5 * again.split.n_test


def test_report_names_every_policy():
    assert set(report().policies) >= NAMES


def test_router_is_advised_where_the_prompt_tells_what_is_needed():
    rheostat = report().policies["rheostat"]
    assert report().verdict == "route"
    assert rheostat.cost_ratio > 1.5
    assert rheostat.aiq > report().policies["fixed_hull"].aiq


def test_shuffled_labels_are_not_routed():
    data = logged()
    order = np.random.default_rng(1).permutation(len(data.table))
    shuffled = Logged(replace(data.table, reward=data.table.reward[order]), None, {})
    assert run(shuffled).verdict == "do not route"


def test_nothing_closes_more_of_the_oracle_gap_than_the_oracle():
    policies = report().policies
    assert policies["oracle"].oracle_gap_closed == pytest.approx(1.0)
    assert policies["fixed_hull"].oracle_gap_closed == pytest.approx(0.0)
    assert all(policy.oracle_gap_closed <= 1.0 + 1e-9 for policy in policies.values())


def test_points_rise_and_lie_inside_their_intervals():
    for policy in report().policies.values():
        cost, accuracy = [p.cost for p in policy.points], [p.accuracy for p in policy.points]
        assert cost == sorted(cost)
        assert accuracy == sorted(accuracy)
        assert all(p.low <= p.accuracy <= p.high for p in policy.points)


def test_two_actions_give_a_share_of_the_gap_recovered():
    assert 0.6 < report().policies["rheostat"].apgr <= report().policies["oracle"].apgr + 1e-9


def test_train_and_test_queries_add_up():
    split = report().split
    assert split.n_train + split.n_test == 600
    assert 0.6 < split.n_train / 600 < 0.8


def test_one_text_cannot_be_split():
    data = logged(100)
    table = replace(data.table, texts=("the same question",) * 100)
    with pytest.raises(DatasetError, match="same text"):
        run(Logged(table, None, {}))


def test_command_writes_the_report(tmp_path):
    folder, data = tmp_path / "words", logged(160)
    static_encoder(folder)
    log, out = tmp_path / "log.parquet", tmp_path / "out.json"
    _write(data.table, log)
    result = CliRunner().invoke(
        app, ["backtest", str(log), "--encoder", str(folder), "--state", str(tmp_path), "--seed", "1", "--json", str(out)]
    )
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert {"best_fixed", "policies", "verdict", "split"} <= set(written)
    assert set(written["policies"]) >= NAMES
    assert written["unit"] == "tokens"


def _write(table: OutcomeTable, path) -> None:
    rows = [
        {
            "dataset": table.datasets[i], "query_id": table.query_ids[i], "query_text": table.texts[i],
            "model": action.split("/")[0], "strategy": "cot", "sample_index": 0, "answer": str(table.reward[i, j]),
            "correct": table.reward[i, j], "completion_tokens": 50 + 10 * j,
        }
        for i in range(len(table))
        for j, action in enumerate(table.actions)
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(path)
