"""Foreign logs: what is kept, what is left out, and what is refused."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.samples import check_samples
from rheostat.data.schema import Action
from rheostat.data.simulate import World
from rheostat.training.logged import answer_key, arms, check_priced, chosen, read_logged, read_prices

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


def test_query_without_an_arm_is_left_out_and_counted(write):
    logged = read_logged(write([row for row in rows() if row["model"] != "b" or row["query_id"] != "3"]))
    assert logged.table.reward.shape == (9, 3)
    assert logged.queries_left_out == 1


def test_what_a_replay_cannot_use_is_named_and_counted(write):
    log = rows(arms=[("a", "cot"), ("b", "cot"), ("a", "tree")], samples=2)
    logged = read_logged(write([row for row in log if (row["model"], row["query_id"]) != ("b", "3")]))
    assert logged.left_out == {"a/tree": 1.0}
    assert logged.queries_left_out == 1


@pytest.mark.parametrize("samples", [1, 2])
def test_what_was_not_counted_costs_what_its_action_costs(write, samples):
    log = rows(arms=[("a", "cot"), ("a", "direct")], samples=samples)
    whole = read_logged(write(log)).table
    holes = [row | {"completion_tokens": None if row["query_id"] == "3" else row["completion_tokens"]} for row in log]
    assert read_logged(write(holes)).table.tokens == pytest.approx(whole.tokens)


def test_several_samples_are_replayed(write):
    logged = read_logged(write(rows(arms=[("a", "cot"), ("a", "direct")], samples=2)))
    assert logged.answers is None
    assert logged.table.known_in_full.all()


def test_models_and_strategies_narrow_the_log(write):
    logged = read_logged(write(rows()), models=["a"], strategies=["cot", "direct"])
    assert len(logged.table.actions) == 2


def test_data_sets_are_chosen_by_name_or_by_what_they_are_under(write):
    mixed = [row | {"dataset": name} for name in ("maths/sums", "maths/sets", "law") for row in rows(4)]
    assert len(read_logged(write(mixed), datasets=["maths"]).table) == 8
    assert set(read_logged(write(mixed), datasets=["law", "maths/sums"]).table.datasets) == {"law", "maths/sums"}


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


def simulated(n: int = 20) -> pl.DataFrame:
    rows = [msgspec.structs.asdict(sample) for sample in World(0).samples(n, direct=1, cot=3)]
    return check_samples(pl.DataFrame(rows, infer_schema_length=None), "log")


def test_an_arm_is_the_mean_of_its_samples_and_then_has_no_single_answer():
    frame = simulated()
    logged = arms(frame)
    table = logged.table
    assert [Action.parse(action).strategy for action in table.actions] == ["cot", "direct", "cot", "direct"]
    one = frame.filter((pl.col("query_id") == table.query_ids[3]) & (pl.col("model") == "large") & (pl.col("strategy") == "cot"))
    assert table.reward[3, 0] == pytest.approx(one["correct"].mean())
    assert table.tokens[3, 0] == pytest.approx(one["completion_tokens"].mean())
    assert logged.answers is None


def test_row_order_does_not_matter():
    frame = simulated()
    shuffled, table = arms(frame.sample(fraction=1.0, shuffle=True, seed=1)).table, arms(frame).table
    assert (shuffled.query_ids, shuffled.actions) == (table.query_ids, table.actions)
    np.testing.assert_allclose(shuffled.reward, table.reward)


def test_odd_names_are_spelled_as_actions():
    frame = simulated().with_columns(strategy=pl.col("strategy").replace({"cot": "CoT[sc40]", "direct": "0-shot"}))
    table = arms(chosen(frame, models=["small"])).table
    assert [Action.parse(action).strategy for action in table.actions] == ["s_0_shot", "cot_sc40"]


@pytest.mark.parametrize(("choice", "words"), [({"models": ["absent"]}, "no model 'absent'"), ({"strategies": ["x"]}, "no strategy 'x'")])
def test_unknown_choices_list_the_known(choice, words):
    with pytest.raises(DatasetError, match=words):
        chosen(simulated(), **choice)


def test_one_arm_is_no_choice():
    with pytest.raises(DatasetError, match=r"one action is left \(small/cot\): there is nothing to choose between"):
        arms(chosen(simulated(), models=["small"], strategies=["cot"]))


def test_prices_are_read_flat_nested_or_in_full(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"unit": "USD", "log": {"a": 2, "b": {"usd_per_1m_output": 3, "usd_per_1m_input": 1}}}))
    prices = read_prices(path, "log")
    assert (prices["a"].usd_per_1m_output, prices["b"].usd_per_1m_input) == (2.0, 1.0)
    path.write_text('{"a": 2.5}')
    assert read_prices(path, "log")["a"].usd_per_1m_output == 2.5


@pytest.mark.parametrize("content", ["{}", "[1]", "nothing", '{"a": "dear"}', '{"log": 3, "b": 1}', '{"log": {}}', '{"a": -1}'])
def test_files_without_prices_are_refused(content, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match="prices"):
        read_prices(path, "log")


def test_prices_by_table_name_the_tables_where_the_log_is_none_of_them(tmp_path):
    (tmp_path / "prices.json").write_text(json.dumps({"unit": "USD", "mmlu": {"a": 2}}))
    with pytest.raises(DatasetError, match=r"holds no prices for log: .* one of its tables \(mmlu\)"):
        read_prices(tmp_path / "prices.json", "log")


def test_prices_know_a_model_by_the_word_that_a_log_is_read_with(tmp_path):
    (tmp_path / "prices.json").write_text(json.dumps({"GPT-4 (mini)": 2}))
    assert list(read_prices(tmp_path / "prices.json")) == ["GPT-4-mini"]


def test_model_without_a_price_is_named(write, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"a": 2}))
    with pytest.raises(DatasetError, match="no price for b"):
        check_priced(read_logged(write(rows())).table, read_prices(path, "log"))


def test_ungraded_answer_counts_as_not_right(write):
    changed = [row | {"correct": None if row["model"] == "b" else row["correct"]} for row in rows()]
    assert (read_logged(write(changed)).table.reward[:, 2] == 0).all()
    assert read_logged(write(changed)).ungraded == {"b/cot[x]": 1.0}
    assert np.isfinite(read_logged(write(changed)).table.reward).all()
