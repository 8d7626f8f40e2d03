"""Items from logs, also from sparse ones."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.training.sampled_items import items_of, read_items


def frame(answers: list[str | None], **columns: object) -> pl.DataFrame:
    rows = [
        {"dataset": "d", "query_id": "q", "model": "m", "strategy": "cot", "sample_index": at, "answer": a, "correct": float(a == "right")}
        | columns
        for at, a in enumerate(answers)
    ]
    return pl.DataFrame(rows, schema_overrides={"answer": pl.String})


def test_answers_are_coded_in_order_of_submission():
    items = items_of(frame(["b", None, "right", "b"]).sample(fraction=1.0, shuffle=True, seed=1), 4)
    assert items.codes.tolist() == [[0, -1, 1, 0]]
    assert items.rewards.tolist() == [[0.0, 1.0]]
    assert items.correct.tolist() == [0.25]
    assert items.texts == (None,)


def test_runs_of_one_question_are_items_of_one_question():
    log = pl.concat([frame(["right"] * 4, run_id=str(run), query_text="what?") for run in range(3)])
    items = items_of(log, 4)
    assert (len(items), len(items.names), len(items.groups), items.texts) == (3, 1, 3, ("what?",))


def test_items_with_too_few_samples_are_left_out():
    log = pl.concat([frame(["right"] * 4), frame(["right"] * 3, query_id="short")])
    assert items_of(log, 4).names == ("d|q",)
    with pytest.raises(DatasetError, match="5 samples"):
        items_of(log, 5)


def test_runs_draw_without_replacement_from_what_is_there():
    log = pl.concat([frame(["right", "a", "b", "c", "d", "e"]), frame(["right", "a", "b", None], query_id="short")])
    items = items_of(log, 4)
    runs, item = items.runs(np.arange(len(items)), 4, 50, seed=0)
    assert runs.depth == 4
    assert (runs.first[:, -1] == 1).all()
    assert (runs.counted[item == 1, -1] == 3).all()
    assert (runs.distinct[item == 0, -1] == 4).all()
    assert len(np.unique(runs.value[item == 0, 0])) == 2


def test_all_answers_null_is_never_right():
    items = items_of(frame([None] * 4), 4)
    runs, _ = items.runs(np.arange(len(items)), 4, 2, seed=0)
    assert runs.value.max() == 0.0
    assert items.correct.tolist() == [0.0]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (frame(["a"] * 4).with_columns(correct=pl.lit(float("nan"))), "row 0: correct"),
        (frame(["a"] * 4).with_columns(correct=pl.lit(2.0)), "row 0: correct"),
        (pl.concat([frame(["a"] * 4)] * 2), "more than once"),
    ],
)
def test_rows_that_do_not_fit_are_named(log, words):
    with pytest.raises(DatasetError, match=words):
        items_of(log, 2)


def test_missing_columns_are_listed(tmp_path):
    frame(["a"] * 4).drop("answer", "model").write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DatasetError, match="model, answer"):
        read_items(tmp_path / "log.parquet", 2)


def test_a_log_is_read_from_its_file(tmp_path):
    frame(["a"] * 4).write_parquet(tmp_path / "log.parquet")
    assert len(read_items(tmp_path / "log.parquet", 4)) == 1
