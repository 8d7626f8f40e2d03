"""What a sweep shows is what its rows say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Ledger
from rheostat.data.samples import read_samples
from rheostat.training.axes import ladder
from rheostat.training.logged import read_logged
from rheostat.training.sweep import Row
from rheostat.training.sweep_report import export, read_rows, report, wilson

SAMPLES = ladder("samples=1,4,16", "m", by="self")


def row(action: str, query: int, *, correct: float, tokens: int = 10, dataset: str = "sums") -> Row:
    ledger = Ledger(calls=1, prompt=5, completion=tokens)
    return Row(
        dataset=dataset, query_id=f"q{query}", query_text="?", level=1, action=action, correct=correct, answer="7", ledger=ledger,
        cost_usd=1e-6 * tokens, latency_s=0.5, stop_reason="complete", estimated=False,
    )  # fmt: skip


def rows(n: int = 60) -> list[Row]:
    chance = np.random.default_rng(0).random(n)
    spent = zip(SAMPLES.rungs, (0.3, 0.6, 0.7), strict=True)
    return [
        row(str(rung.action), query, correct=float(chance[query] < p), tokens=10 * rung.size, dataset=f"d{query % 2}")
        for rung, p in spent
        for query in range(n)
    ]


def test_an_action_is_its_mean_over_queries_and_each_data_set_its_own() -> None:
    first = report(rows(), []).actions[0]
    correct = [each.correct for each in rows() if each.action == first.action]

    assert (first.n, first.tokens.value, first.calls.value, first.prompt_tokens) == (60, 10, 1, 5)
    assert first.accuracy.value == pytest.approx(np.mean(correct))
    assert first.accuracy.low < first.accuracy.value < first.accuracy.high
    assert sum(n * p for p, n in first.by_dataset.values()) == pytest.approx(sum(correct))


def test_an_axis_is_looked_at_on_the_queries_that_all_its_sizes_share() -> None:
    axis = report([*rows(), row(str(SAMPLES.rungs[0].action), 99, correct=0.0)], [SAMPLES]).axes[0]

    assert axis.n == 60
    assert [(point.size, point.tokens) for point in axis.points] == [(1, 10), (4, 40), (16, 160)]
    assert axis.growth.verdict == "pays"


def test_an_axis_of_one_size_or_without_common_queries_is_left_out() -> None:
    one, other = (str(rung.action) for rung in SAMPLES.rungs[:2])

    assert report([row(one, 1, correct=1.0)], [SAMPLES]).axes == ()
    assert report([row(one, 1, correct=1.0), row(other, 2, correct=1.0)], [SAMPLES]).axes == ()


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_wilson_covers_the_truth_at_its_level(p: float) -> None:
    drawn = np.random.default_rng(1).binomial(50, p, size=400)
    covered = [found.low <= p <= found.high for found in (wilson(float(k), 50) for k in drawn)]

    assert np.mean(covered) > 0.92
    assert wilson(0.0, 50).high > 0.05


def test_the_export_is_a_log_with_a_column_for_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "sweep.parquet"
    assert export(rows(), path) == 180
    log, whole = read_samples(path), pl.read_parquet(path)

    assert log["correct"].sum() == sum(each.correct for each in rows())
    assert set(log["strategy"]) == {str(rung.action).removeprefix("m/") for rung in SAMPLES.rungs}
    assert whole["calls"].sum() == 180


def test_an_export_is_read_back_as_it_was(tmp_path: Path) -> None:
    export(rows(), tmp_path / "sweep.parquet")

    assert read_rows(tmp_path / "sweep.parquet") == rows()


def test_a_log_of_samples_is_refused_as_a_sweep(tmp_path: Path) -> None:
    pl.DataFrame({"calls": [1]}).write_parquet(tmp_path / "log.parquet")

    with pytest.raises(DatasetError, match="no column 'verifier_tokens'"):
        read_rows(tmp_path / "log.parquet")


def test_a_backtest_reads_the_export_as_one_arm_an_action(tmp_path: Path) -> None:
    path = tmp_path / "sweep.parquet"
    export(rows(), path)
    table = read_logged(path).table

    assert len(table.actions) == len(SAMPLES.rungs)
    assert sorted(table.reward.mean(axis=0)) == pytest.approx(sorted(each.accuracy.value for each in report(rows(), []).actions))
