"""`rheostat import`, and what can be done with the log it writes."""

from __future__ import annotations

import json

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.data.importers.formats import Imported
from rheostat.data.samples import read_samples
from rheostat.training.backtest import BacktestReport
from rheostat.training.backtest_stopping import StopReport
from rheostat.training.pipeline import train_router
from tests.training.make import encoder

N = 120
EPOCHS = 8


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None, result.output
    return result.stdout


def right(model: str, number: int, index: int = 0) -> bool:
    """The small model fails on every other, hard question, and now and then elsewhere."""
    hard = number % 2 == 1
    return (number + index) % (3 if hard and model == "small" else 11) > (1 if hard and model == "small" else 0)


def question(number: int) -> str:
    return f"{'hard' if number % 2 else 'easy'}: what is {number} and {number}?"


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """A folder as lm-evaluation-harness leaves it: two models, one task."""
    folder = tmp_path_factory.mktemp("results")
    for model in ("small", "large"):
        rows = [
            {
                "doc_id": i, "doc": {"question": question(i)}, "target": str(2 * i), "filter": "none", "metrics": ["exact_match"],
                "arguments": {"gen_args_0": {"arg_0": f"Q: {question(i)}\nA:", "arg_1": {"until": ["Q:"]}}},
                "resps": [["It is " + "so " * (9 if model == "large" else 2)]], "filtered_resps": [str(2 * i)],
                "exact_match": float(right(model, i)),
            }
            for i in range(N)
        ]  # fmt: skip
        (folder / f"lab__{model}").mkdir()
        (folder / f"lab__{model}" / "results_2025-01-01T00-00-00.json").write_text("{}")
        path = folder / f"lab__{model}" / "samples_sums_2025-01-01T00-00-00.123456.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def log(harness, tmp_path_factory):
    out = tmp_path_factory.mktemp("log") / "log.parquet"
    run("import", harness, "--strategy", "cot", "--out", out)
    return out


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return encoder(tmp_path_factory.mktemp("words")).folder


def test_a_folder_of_the_harness_becomes_one_log(harness, tmp_path):
    out = tmp_path / "log.parquet"
    found = msgspec.json.decode(run("import", harness, "--out", out, "--json", "-"), type=list[Imported])
    assert [(file.format, file.samples, file.models) for file in found] == [
        ("lm-eval", N, ["lab/large"]),
        ("lm-eval", N, ["lab/small"]),
    ]
    frame = read_samples(out)
    assert len(frame) == 2 * N
    assert frame["query_text"][1].startswith("hard: what is 1")
    assert frame.group_by("dataset", "query_id").len()["len"].unique().to_list() == [2]


def test_the_summary_says_how_many_tokens_are_guesses(harness, tmp_path):
    assert "tokens of 100% estimated" in run("import", harness, "--out", tmp_path / "log.parquet")


def test_nothing_is_written_where_a_row_does_not_fit(harness, tmp_path):
    (tmp_path / "in").mkdir()
    source = next((harness / "lab__small").glob("samples*"))
    (tmp_path / "in" / "samples_sums.jsonl").write_text(source.read_text() + '{"doc_id": 1, "resps": []}\n')
    result = CliRunner().invoke(app, ["import", str(tmp_path / "in"), "--out", str(tmp_path / "log.parquet")])
    assert f"row {N + 1}: arguments is missing" in str(result.exception)
    assert not (tmp_path / "log.parquet").exists()


def test_an_imported_log_can_be_backtested(log, words, tmp_path):
    found = msgspec.json.decode(
        run("backtest", log, "--encoder", words, "--state", tmp_path, "--json", "-"), type=BacktestReport, strict=False
    )
    assert {action.split("@")[0] for action in found.actions} == {"lab/large/cot", "lab/small/cot"}
    assert found.split.n_train + found.split.n_test == N


def test_an_imported_log_can_be_trained_on(log, words, tmp_path):
    trained = train_router([log], tmp_path, prices={}, encoder=str(words))
    assert {action.split("/")[1] for action in trained.evaluation.actions} == {"large", "small"}


def test_epochs_of_inspect_can_be_backtested_for_stopping(words, tmp_path):
    samples = [
        {
            "id": i, "epoch": epoch + 1, "input": question(i), "target": "1", "output": {"completion": f"The answer is {epoch % 3}."},
            "scores": {"match": {"value": "C" if right("small", i, epoch) else "I", "answer": "1" if right("small", i, epoch) else "2"}},
            "model_usage": {"lab/m": {"input_tokens": 9, "output_tokens": 20}},
        }
        for i in range(60) for epoch in range(EPOCHS)
    ]  # fmt: skip
    head = {"task": "sums", "model": "lab/m", "model_generate_config": {"temperature": 0.8}}
    (tmp_path / "log.json").write_text(json.dumps({"eval": head, "samples": samples}))
    run("import", tmp_path / "log.json", "--strategy", "cot", "--out", tmp_path / "log.parquet")
    assert read_samples(tmp_path / "log.parquet").select(pl.col("temperature").unique()).item() == 0.8
    answer = run("backtest-stopping", tmp_path / "log.parquet", "--k", EPOCHS, "--encoder", words, "--state", tmp_path, "--json", "-")
    found = msgspec.json.decode(answer, type=StopReport)
    assert found.reference.rule == "fixed(8)"
    assert {"fixed", "lead", "learned"} <= set(found.rules)
