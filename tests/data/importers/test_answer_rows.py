"""Tables with one row an answer, as people export them."""

from __future__ import annotations

import json
import random

import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.importers.answer_rows import read_answer_rows
from rheostat.data.importers.fields import ESTIMATED, LOGGED, Options
from rheostat.data.samples import check_samples, samples_frame

ROW = {"question": "Größer: 7 × 8?", "model": "lab/m (8B)", "correct": "TRUE", "completion_tokens": "31", "cost_usd": "0.002"}


def csv(tmp_path, *rows: dict[str, object]):
    """A CSV file with the columns of the first row; None is written as nothing."""
    path = tmp_path / "mine.csv"
    pl.DataFrame([{name: None if value is None else str(value) for name, value in row.items()} for row in rows]).write_csv(path)
    return path


def read(path, **options):
    found = list(read_answer_rows(path, Options(**options)))
    check_samples(samples_frame(found), str(path))
    return found


def test_a_table_is_the_same_log_as_csv_parquet_and_json_lines(tmp_path):
    rows = [ROW, ROW | {"model": "b", "correct": "no", "completion_tokens": "7"}]
    typed = [row | {"correct": row["correct"] == "TRUE", "completion_tokens": int(row["completion_tokens"])} for row in rows]
    pl.DataFrame(typed).write_parquet(tmp_path / "mine.parquet")
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, typed)))
    logs = [read(path) for path in (csv(tmp_path, *rows), tmp_path / "mine.parquet", tmp_path / "mine.jsonl")]
    assert logs[0] == logs[1] == logs[2]
    first, second = logs[0]
    assert (first.dataset, first.query_text, first.model, first.strategy) == ("mine", "Größer: 7 × 8?", "lab/m (8B)", "direct")
    assert (first.correct, first.completion_tokens, first.cost_usd, first.tokens_source) == (1.0, 31, 0.002, LOGGED)
    assert (first.query_id, second.correct) == (second.query_id, 0.0)


@pytest.mark.parametrize(("name", "separator"), [("mine.csv", ";"), ("mine.tsv", "\t"), ("mine.csv", ",")])
def test_columns_may_be_separated_as_spreadsheets_do_and_texts_be_long(name, separator, tmp_path):
    rows = [["question", "model", "correct"], [f'"Which, {"very " * 50_000}long; or short?"', "m", "1"]]
    (tmp_path / name).write_text("\n".join(separator.join(row) for row in rows))
    (found,) = read(tmp_path / name)
    assert (len(found.query_text), found.model, found.correct) == (250_022, "m", 1.0)


def test_the_order_of_rows_does_not_matter(tmp_path):
    rows = [ROW | {"question": f"{q}?", "model": model, "correct": q % 2} for q in range(20) for model in "ab"]
    there = read(csv(tmp_path, *rows))
    random.Random(0).shuffle(rows)
    assert sorted(read(csv(tmp_path, *rows)), key=str) == sorted(there, key=str)


def test_rows_of_one_query_model_and_strategy_are_its_samples(tmp_path):
    rows = [ROW, ROW | {"strategy": "cot"}, ROW | {"correct": "false"}]
    found = read(csv(tmp_path, *({"strategy": None} | row for row in rows)))
    assert [(each.strategy, each.sample_index, each.correct) for each in found] == [("direct", 0, 1), ("cot", 0, 1), ("direct", 1, 0)]


def test_what_is_blank_is_unknown_and_not_wrong_or_free(tmp_path):
    blank = ROW | {"correct": None, "completion_tokens": " ", "cost_usd": None}
    (found,) = read(csv(tmp_path, blank | {"response": "It is 56."}))
    assert (found.correct, found.completion_tokens, found.cost_usd, found.tokens_source) == (None, 3, None, ESTIMATED)
    pl.DataFrame({"prompt": ["Q?"], "model": ["m"], "correct": [float("nan")]}).write_parquet(tmp_path / "nan.parquet")
    assert read(tmp_path / "nan.parquet")[0].correct is None


def test_a_column_may_be_named_for_the_reward_and_the_model_and_strategy_for_all(tmp_path):
    path = csv(tmp_path, {"prompt": "What is 7 * 8?", "judge": "0.25", "response": "So it is 56."})
    (found,) = read(path, model="m", strategy="cot", score="judge")
    assert (found.model, found.strategy, found.correct, found.answer) == ("m", "cot", 0.25, "56")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([ROW | {"correct": "perhaps"}], "row 1: correct is 'perhaps', not a score"),
        ([{"question": "Q?", "correct": "1"}], "row 1: model is missing"),
        ([{"query": "Q?", "model": "m", "correct": "1"}], "row 1: query_text is missing"),
        ([ROW | {"question": None}], "row 1: question is None, not str"),
        ([ROW | {"cost_usd": "$2"}], r"row 1: cost_usd is '\$2', not a number from 0 up"),
        ([ROW, ROW | {"model": "b", "completion_tokens": "1.5"}], r"row 2: completion_tokens is '1\.5', not a whole number"),
        ([ROW | {"completion_tokens": "-1"}], "row 1: completion_tokens is '-1'"),
        ([ROW | {"completion_tokens": None}], "row 1: completion_tokens is blank and there is no response"),
        ([ROW | {"sample_index": 0}, ROW | {"sample_index": 0}], "row 2: sample_index is 0, as in row 1 of the same query"),
        ([ROW | {"query_id": 1}, ROW | {"query_id": 1, "question": "R?"}], "row 2: question is not what row 1 asks under query_id '1'"),
    ],
)
def test_rows_that_do_not_fit_are_named(rows, words, tmp_path):
    with pytest.raises(DatasetError, match=words):
        read(csv(tmp_path, *rows))
