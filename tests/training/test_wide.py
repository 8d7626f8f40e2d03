"""Tables of arms from logs of any strategy."""

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
from rheostat.training.wide import read_prices, wide_table


def log(n: int = 20) -> pl.DataFrame:
    rows = [msgspec.structs.asdict(sample) for sample in World(0).samples(n, direct=1, cot=3)]
    return check_samples(pl.DataFrame(rows, infer_schema_length=None), "log")


def test_an_arm_is_the_mean_of_its_samples():
    frame = log()
    table = wide_table(frame)
    assert [Action.parse(action).strategy for action in table.actions] == ["cot", "direct", "cot", "direct"]
    one = frame.filter((pl.col("query_id") == table.query_ids[3]) & (pl.col("model") == "large") & (pl.col("strategy") == "cot"))
    assert table.reward[3, 0] == pytest.approx(one["correct"].mean())
    assert table.tokens[3, 0] == pytest.approx(one["completion_tokens"].mean())
    assert table.known_in_full.all()


def test_row_order_does_not_matter():
    frame = log()
    shuffled, table = wide_table(frame.sample(fraction=1.0, shuffle=True, seed=1)), wide_table(frame)
    assert (shuffled.query_ids, shuffled.actions) == (table.query_ids, table.actions)
    np.testing.assert_allclose(shuffled.reward, table.reward)


def test_arms_that_few_queries_saw_are_left_out_and_queries_without_an_arm_too():
    frame = log()
    rare = frame.head(1).with_columns(model=pl.lit("rare"))
    missing = frame.filter(~((pl.col("query_id") == frame["query_id"][0]) & (pl.col("model") == "small") & (pl.col("strategy") == "cot")))
    table = wide_table(pl.concat([missing, rare]))
    assert len(table) == 19
    assert not any(action.startswith("rare") for action in table.actions)


def test_models_and_strategies_can_be_chosen_and_odd_names_spelled():
    frame = log().with_columns(strategy=pl.col("strategy").replace("cot", "CoT[sc40]"))
    table = wide_table(frame, models=["small"])
    assert [Action.parse(action).strategy for action in table.actions] == ["cot_sc40", "direct"]


@pytest.mark.parametrize(("choice", "words"), [({"models": ["absent"]}, "no model 'absent'"), ({"strategies": ["x"]}, "no strategy 'x'")])
def test_unknown_choices_list_the_known(choice, words):
    with pytest.raises(DatasetError, match=words):
        wide_table(log(), **choice)


def test_one_arm_is_no_choice():
    with pytest.raises(DatasetError, match="1 arms cover"):
        wide_table(log(), models=["small"], strategies=["cot"])


def test_prices_are_read_flat_nested_or_in_full(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"unit": "USD", "log": {"a": 2, "b": {"usd_per_1m_output": 3, "usd_per_1m_input": 1}}}))
    prices = read_prices(path, "log")
    assert (prices["a"].usd_per_1m_output, prices["b"].usd_per_1m_input) == (2.0, 1.0)
    path.write_text('{"a": 2.5}')
    assert read_prices(path, "log")["a"].usd_per_1m_output == 2.5


@pytest.mark.parametrize("content", ["{}", "[1]", "nothing", '{"a": "dear"}', '{"log": 3, "b": 1}'])
def test_files_without_prices_are_refused(content, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match="prices"):
        read_prices(path, "log")


def test_ungraded_counts_as_wrong():
    frame = log().with_columns(correct=pl.lit(None, dtype=pl.Float64))
    np.testing.assert_array_equal(wide_table(frame).reward, 0.0)
