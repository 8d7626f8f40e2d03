"""Every command that takes a table, given every kind of bad one: a DatasetError that says what is wrong, and where."""

from __future__ import annotations

import functools
import re

import polars as pl
import pytest
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.data.errors import DatasetError
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.segment_files import rows_frame
from tests.training.make import bundle, encoder
from tests.training.test_ope_log import write

SAMPLED = {
    "train": ("train", "--no-live", "--encoder", "ENCODER"),
    "backtest": ("backtest", "--encoder", "ENCODER"),
    "backtest-stopping": ("backtest-stopping", "--k", "4", "--encoder", "ENCODER"),
    "guarantee": ("guarantee", "--target", "0.8", "--encoder", "ENCODER"),
}
LIVE = {
    "ope": ("ope", "--policy", "BUNDLE"),
    "guarantee": ("guarantee", "--target", "0.8", "--policy", "BUNDLE"),
}


@functools.cache
def samples() -> pl.DataFrame:
    """Two models, four samples of each on 60 questions, right more or less often."""
    rows = [
        {
            "dataset": "made", "query_id": f"q{query}", "query_text": f"What is {query} and {query}?", "model": model, "strategy": "cot",
            "sample_index": index, "temperature": 0.8, "answer": "right" if right else f"wrong {index}", "correct": float(right),
            "prompt_tokens": 5, "completion_tokens": 10 + index, "latency_s": 0.1,
        }
        for query in range(60) for model in ("small", "large") for index in range(4)
        for right in [(query + index) % (3 if model == "small" else 5) > 0]
    ]  # fmt: skip
    return pl.DataFrame(rows)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """What stands for BUNDLE and ENCODER in a command."""
    saved = bundle(tmp_path_factory.mktemp("router"), knows=True).save(tmp_path_factory.mktemp("saved") / "bundle")
    return {"BUNDLE": str(saved), "ENCODER": str(encoder(tmp_path_factory.mktemp("encoder")).folder)}


@pytest.fixture(scope="module")
def segment(tmp_path_factory) -> pl.DataFrame:
    path = tmp_path_factory.mktemp("live") / "log.db"
    write(path)
    with OutcomeReader(path) as reader:
        return rows_frame(reader.rows_after(0, 1000))


def set_cell(frame: pl.DataFrame, column: str, row: int, value: object) -> pl.DataFrame:
    values = frame[column].to_list()
    values[row] = value
    return frame.with_columns(pl.Series(column, values, dtype=frame[column].dtype))


def whole(frame: pl.DataFrame, column: str, value: object) -> pl.DataFrame:
    return frame.with_columns(pl.lit(value, dtype=frame[column].dtype).alias(column))


def refused(command: tuple[str, ...], table, tmp_path, folders) -> str:
    """The message of the DatasetError that a command ends with."""
    words = [folders.get(word, word) for word in command]
    state = [] if command[0] == "ope" else ["--state", str(tmp_path / "state")]
    result = CliRunner().invoke(app, [words[0], str(table), *words[1:], *state])
    assert isinstance(result.exception, DatasetError), result.exception
    return str(result.exception)


def assert_says(words: str, message: str) -> None:
    assert re.search(words, message), message


SAMPLE_FAULTS = {
    "missing column": (lambda frame: frame.drop("correct"), "log.parquet: missing columns correct"),
    "NaN reward": (lambda frame: set_cell(frame, "correct", 7, float("nan")), r"log\.parquet row 7: correct is nan"),
    "reward beyond one": (lambda frame: set_cell(frame, "correct", 7, 1.5), r"log\.parquet row 7: correct is 1\.5"),
    "all right": (lambda frame: whole(frame, "correct", 1.0), "nothing to learn|nothing to choose"),
    "all wrong": (lambda frame: whole(frame, "correct", 0.0), "nothing to learn|nothing to choose"),
    "one query": (lambda frame: frame.filter(pl.col("query_id") == "q1"), r"\b1 (of|quer|complete|different|question)"),
    "duplicate keys": (lambda frame: pl.concat([frame, frame[:1]]), r"log\.parquet row \d+: .*more than once"),
    "no rows": (lambda frame: frame[:0], r"log\.parquet: no (rows|question)"),
}


@pytest.mark.parametrize("fault", SAMPLE_FAULTS)
@pytest.mark.parametrize("command", SAMPLED)
def test_a_bad_sample_log_is_refused(command, fault, tmp_path, folders):
    spoil, words = SAMPLE_FAULTS[fault]
    spoil(samples()).write_parquet(tmp_path / "log.parquet")
    assert_says(words, refused(SAMPLED[command], tmp_path / "log.parquet", tmp_path, folders))


LIVE_FAULTS = {
    "missing column": (lambda frame: frame.drop("propensity"), "log.parquet: missing columns propensity"),
    "NaN reward": (lambda frame: set_cell(frame, "reward", 7, float("nan")), r"log\.parquet row 7: reward is nan"),
    "zero propensity": (
        lambda frame: set_cell(frame, "propensity", 7, 0.0),
        r"log\.parquet row 7: propensity is 0\.0, must be in \(0, 1\]",
    ),
    "propensity beyond one": (lambda frame: set_cell(frame, "propensity", 7, 1.2), r"log\.parquet row 7: propensity is 1\.2"),
    "NaN propensity": (lambda frame: set_cell(frame, "propensity", 7, float("nan")), r"log\.parquet row 7: propensity is nan"),
    "no propensity": (lambda frame: set_cell(frame, "propensity", 7, None), r"log\.parquet row 7: propensity is None"),
    "one class": (lambda frame: whole(frame, "reward", 1.0), "reward is 1 in all 240 usable rows"),
    "one query": (lambda frame: whole(frame, "prompt_text", "easy"), "all 240 usable rows ask the same question"),
    "two accounts": (
        lambda frame: pl.concat([frame, set_cell(frame[3:4], "reward", 0, 0.5)]),
        r"log\.parquet row 240: decision_id 'd0003' comes twice, and the rows disagree",
    ),
    "unknown actions": (lambda frame: whole(frame, "action", "other/cot@64"), "240 unknown action"),
    "no rows": (lambda frame: frame[:0], "the log is empty"),
}


@pytest.mark.parametrize("fault", LIVE_FAULTS)
@pytest.mark.parametrize("command", LIVE)
def test_a_bad_live_log_is_refused(command, fault, tmp_path, folders, segment):
    spoil, words = LIVE_FAULTS[fault]
    spoil(segment).write_parquet(tmp_path / "log.parquet")
    assert_says(words, refused(LIVE[command], tmp_path / "log.parquet", tmp_path, folders))


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        ("backtest", ("--models", "huge"), "no model 'huge' in the log; it has large, small"),
        ("backtest", ("--strategies", "tree"), "no strategy 'tree' in the log"),
        ("backtest", ("--model", "small,large", "--model", "huge"), "no model 'huge' in the log"),
        ("guarantee", ("--model", "huge"), "no model 'huge' in the log"),
        ("guarantee", ("--models", "small,huge"), "no model 'huge' in the log"),
        ("guarantee", ("--segment", "moon"), "no segments by 'moon': known are dataset"),
    ],
)
def test_actions_and_segments_that_the_log_does_not_have_are_named(command, more, words, tmp_path, folders):
    samples().write_parquet(tmp_path / "log.parquet")
    assert_says(words, refused((*SAMPLED[command], *more), tmp_path / "log.parquet", tmp_path, folders))


@pytest.mark.parametrize("command", ["backtest", "guarantee"])
def test_some_models_are_not_priced_and_others_not(command, tmp_path, folders):
    samples().write_parquet(tmp_path / "log.parquet")
    (tmp_path / "prices.json").write_text('{"small": 1}')
    command = (*SAMPLED[command], "--prices", str(tmp_path / "prices.json"))
    assert_says("no price for large: the file has small", refused(command, tmp_path / "log.parquet", tmp_path, folders))


def test_a_log_whose_strategies_cannot_be_replayed_names_them(tmp_path, folders):
    whole(samples(), "strategy", "tree").write_parquet(tmp_path / "log.parquet")
    assert_says("tree", refused(SAMPLED["train"], tmp_path / "log.parquet", tmp_path, folders))


@pytest.mark.parametrize("command", [*SAMPLED.values(), *LIVE.values()], ids=" ".join)
def test_a_file_that_is_no_table_is_refused(command, tmp_path, folders):
    (tmp_path / "log.parquet").write_text("no table")
    assert_says("log.parquet", refused(command, tmp_path / "log.parquet", tmp_path, folders))
