"""The command over a folder of logs: what it runs, what it keeps, what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import polars as pl
import pytest

from benchmarks import tables
from rheostat.training.guarantee_check import Check
from rheostat.training.results_page import HEADING
from tests.training.test_backtest import report


def write(folder: Path, name: str, models: list[str]) -> None:
    rows = [
        {
            "dataset": "d", "query_id": str(query), "query_text": f"question {query}", "model": model, "strategy": "cot",
            "sample_index": 0, "answer": "1", "correct": float(query % 2), "completion_tokens": 10,
        }
        for query in range(12)
        for model in models
    ]  # fmt: skip
    folder.mkdir(exist_ok=True)
    pl.DataFrame(rows).write_parquet(folder / f"{name}.parquet")


def check() -> Check:
    """A check with every required field at some number."""
    numbers = {field.name: 1 for field in msgspec.structs.fields(Check) if field.required}
    promise = {"target": 0.7, "delta": 0.1}
    certificate = promise | {"n": 1, "index": None, "accuracy": 0.5, "low": 0.4}
    return msgspec.convert(numbers | promise | {"certificate": certificate}, Check)


def test_what_cannot_be_judged_is_written_down_with_the_reason(tmp_path):
    write(tmp_path / "logs", "one_arm", ["a"])
    page = tmp_path / "docs" / "results.md"
    tables.main([str(tmp_path / "logs"), "--out", str(tmp_path / "out"), "--docs", str(page)])
    text = page.read_text()
    assert "### one_arm" in text
    assert "one action is left" in text
    assert "no question has 16 samples" in text


def test_kept_results_are_shown_and_not_run_again(tmp_path):
    write(tmp_path / "logs", "log", ["a", "b"])
    out, page = tmp_path / "out", tmp_path / "results.md"
    out.mkdir()
    timed = msgspec.json.encode(tables.Timed(report=report(), cpu_s=12.0))
    for name in ("seed-3", "shuffled"):
        (out / f"log-{name}.json").write_bytes(timed)
    (out / "log-promise-0.7.json").write_bytes(msgspec.json.encode(check()))
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"log": {"seeds": [3], "targets": [0.7], "costs": [0.5]}}))
    page.write_text("# Results\n\n## Serving\n\nfast\n")
    tables.main([str(tmp_path / "logs"), "--settings", str(settings), "--out", str(out), "--docs", str(page)])
    text = page.read_text()
    assert f"{report().policies['rheostat'].cost_ratio:.1f} [" in text
    assert "12 CPU seconds" in text
    assert "fast" in text
    assert text.count(HEADING) == 1


def test_one_table_may_be_run_under_several_settings(tmp_path):
    write(tmp_path / "logs", "log", ["a", "b"])
    write(tmp_path / "logs", "other", ["a", "b"])
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"part": {"table": "log", "models": ["a"]}, "log": {}}))
    options = tables.parsed([str(tmp_path / "logs"), "--settings", str(settings)])
    assert sorted(bench.name for bench in tables.benches(options)) == ["log", "other", "part"]


def test_empty_folder_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="no Parquet logs"):
        tables.main([str(tmp_path)])
