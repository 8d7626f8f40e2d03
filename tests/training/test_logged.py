"""Foreign logs: what is kept, what is left out, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.training.logged import answer_key, check_priced, read_logged, read_prices

ARMS = [("a", "cot"), ("a", "direct"), ("b", "cot[x]")]


def rows(n: int = 10, arms=ARMS, samples: int = 1) -> list[dict]:
    return [
        {
            "dataset": "d", "query_id": str(q), "query_text": f"question {q}", "model": model, "strategy": strategy,
            "sample_index": s, "answer": "7" if (q + i) % 2 else "7.0", "correct": float(i > 0), "completion_tokens": 10 * (i + 1),
        }
        for q in range(n)
        for i, (model, strategy) in enumerate(arms)
        for s in range(samples)
    ]  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def to(rows: list[dict]):
        pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
        return tmp_path / "log.parquet"

    return to


def test_every_cell_lands_where_it_belongs(write):
    logged = read_logged(write(rows()))
    assert [action.rpartition("@")[0] for action in logged.table.actions] == ["a/cot", "a/direct", "b/cot_x"]
    assert (logged.table.reward == [0.0, 1.0, 1.0]).all()
    assert (logged.table.tokens == [10, 20, 30]).all()


def test_equal_answers_share_a_number_and_a_missing_one_has_none(write):
    changed = [row | {"answer": None if row["model"] == "b" else row["answer"]} for row in rows()]
    answers = read_logged(write(changed)).answers
    assert (answers[:, 0] == answers[:, 1]).all()
    assert (answers[:, 2] == -1).all()


def test_thinly_covered_arm_is_left_out_and_named(write):
    thin = [row for row in rows() if row["model"] != "b" or row["query_id"] == "3"]
    logged = read_logged(write(thin))
    assert logged.table.reward.shape == (10, 2)
    assert logged.left_out == {"b/cot[x]": pytest.approx(0.1)}


def test_query_without_an_arm_is_left_out(write):
    logged = read_logged(write([row for row in rows() if row["model"] != "b" or row["query_id"] != "3"]))
    assert logged.table.reward.shape == (9, 3)


def test_several_samples_are_replayed(write):
    logged = read_logged(write(rows(arms=[("a", "cot"), ("a", "direct")], samples=2)))
    assert logged.answers is None
    assert logged.table.known_in_full.all()


def test_models_and_strategies_narrow_the_log(write):
    logged = read_logged(write(rows()), models=["a"], strategies=["cot", "direct"])
    assert len(logged.table.actions) == 2


def test_unknown_model_lists_the_known_ones(write):
    with pytest.raises(DatasetError, match="it has a, b"):
        read_logged(write(rows()), models=["c"])


def test_arms_that_share_no_queries_are_refused(write):
    apart = [row for row in rows() if (row["model"] == "b") == (int(row["query_id"]) < 5)]
    with pytest.raises(DatasetError, match="name pairs that share queries"):
        read_logged(write(apart))


@pytest.mark.parametrize(("one", "other"), [("1,000", "1000.0"), ("Yes", " yes "), ("$5", "5")])
def test_spellings_of_one_answer_have_one_key(one, other):
    assert answer_key(one) == answer_key(other) is not None


@pytest.mark.parametrize("nothing", [None, "", "[invalid]", "inf"])
def test_no_answer_has_no_key(nothing):
    assert answer_key(nothing) is None


def test_prices_are_found_by_table_or_alone(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"log": {"a": 2, "b": 3.5}, "note": "list prices"}))
    nested = read_prices(path, "log")
    path.write_text(json.dumps({"a": 2, "b": 3.5}))
    assert read_prices(path, "log") == nested
    assert nested["b"].usd_per_1m_output == 3.5


@pytest.mark.parametrize("text", ["not json", "[]", '{"log": {}}'])
def test_useless_price_file_is_refused(tmp_path, text):
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match="prices"):
        read_prices(path, "log")


def test_model_without_a_price_is_named(write, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"a": 2}))
    with pytest.raises(DatasetError, match="no price for b"):
        check_priced(read_logged(write(rows())).table, read_prices(path, "log"))


def test_ungraded_answer_counts_as_not_right(write):
    changed = [row | {"correct": None if row["model"] == "b" else row["correct"]} for row in rows()]
    assert (read_logged(write(changed)).table.reward[:, 2] == 0).all()
    assert np.isfinite(read_logged(write(changed)).table.reward).all()
