from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import DatasetError
from rheostat.data.samples import COLUMNS, KEY, REQUIRED, check_samples, one_word, read_samples, samples_frame, samples_of, write_samples
from rheostat.data.schema import Action, Sample

FRACTION = st.floats(0, 1)
SAMPLES = st.builds(
    Sample,
    dataset=st.text(max_size=5),
    query_id=st.text(max_size=5),
    query_text=st.text(max_size=20),
    model=st.sampled_from(["pocket", "smol"]),
    strategy=st.sampled_from(["cot", "direct"]),
    sample_index=st.integers(0, 40),
    temperature=FRACTION,
    answer=st.none() | st.text(max_size=5),
    gold=st.text(max_size=5),
    correct=st.none() | FRACTION,
    prompt_tokens=st.integers(0, 2**40),
    completion_tokens=st.integers(0, 2**40),
    latency_s=FRACTION,
    kind=st.sampled_from(["number", "text"]),
    mean_logprob=st.none() | FRACTION.map(float.__neg__),
    cost_usd=st.none() | FRACTION,
)


def key(sample: Sample) -> tuple[object, ...]:
    return tuple(getattr(sample, name) for name in KEY)


@pytest.fixture
def log(sample: Callable[..., Sample]) -> pl.DataFrame:
    return samples_frame(sample(i) for i in range(10))


@settings(max_examples=30, deadline=None)
@given(st.lists(SAMPLES, min_size=1, max_size=30, unique_by=key))
def test_a_log_comes_back_equal(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> None:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    write_samples(path, samples_frame(samples))
    assert list(samples_of(read_samples(path))) == samples


def test_the_columns_are_those_of_a_sample() -> None:
    assert set(COLUMNS) == set(Sample.__struct_fields__)
    assert set(KEY) <= set(COLUMNS)


def test_the_same_rows_are_the_same_bytes(tmp_path: Path, log: pl.DataFrame) -> None:
    for name in ("a", "b"):
        write_samples(tmp_path / f"{name}.parquet", log)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_foreign_table_is_read_with_defaults_for_what_it_lacks(tmp_path: Path, log: pl.DataFrame) -> None:
    foreign = log.select(
        *REQUIRED,
        pl.lit(None).alias("gold"),
        pl.lit(None).alias("temperature"),
        pl.lit("x").alias("extra"),
    ).with_columns(pl.col("model").cast(pl.Categorical), pl.col("correct").cast(pl.Float32), pl.col("sample_index").cast(pl.Int32))
    foreign.write_parquet(tmp_path / "foreign.parquet")
    read = read_samples(tmp_path / "foreign.parquet")
    assert read.columns == list(COLUMNS)
    assert read["model"].dtype == pl.String
    first = read.row(0, named=True)
    assert (first["gold"], first["kind"], first["level"], first["source"]) == ("", "text", 0, "rheostat")
    assert first["temperature"] is first["mean_logprob"] is first["prompt_tokens"] is None
    assert next(iter(samples_of(read))).temperature == 0


def test_several_logs_are_one_table(tmp_path: Path, log: pl.DataFrame) -> None:
    write_samples(tmp_path / "a.parquet", log.head(4))
    write_samples(tmp_path / "b.parquet", log.tail(6))
    assert read_samples([tmp_path / "a.parquet", tmp_path / "b.parquet"]).equals(log.select(list(COLUMNS)))
    write_samples(tmp_path / "again.parquet", log.head(4))
    assert read_samples([tmp_path / name for name in ("a.parquet", "b.parquet", "again.parquet")]).equals(log.select(list(COLUMNS)))
    write_samples(tmp_path / "other.parquet", log.head(4).with_columns(answer=pl.lit("another")))
    with pytest.raises(DatasetError, match=r"2 logs together row .* more than once"):
        read_samples([tmp_path / "a.parquet", tmp_path / "other.parquet"])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("correct", 1.5, "must be in"),
        ("correct", float("nan"), "must be in"),
        ("completion_tokens", -1, "must not be negative"),
        ("prompt_tokens", -1, "must not be negative"),
        ("sample_index", -1, "must not be negative"),
        ("kind", "float", "must be one of number"),
        ("model", None, "must not be null"),
        ("latency_s", float("inf"), "must be finite"),
        ("mean_logprob", float("nan"), "must be finite"),
    ],
)
def test_a_bad_value_is_named_by_file_row_and_column(log: pl.DataFrame, column: str, value: object, message: str) -> None:
    at_six = pl.int_range(pl.len()) == 6
    bad = log.with_columns(pl.when(at_six).then(pl.lit(value)).otherwise(column).alias(column))
    with pytest.raises(DatasetError, match=f"log row 6: {column} is .*{message}"):
        check_samples(bad, "log")


@pytest.mark.parametrize("name", ["GPT-4 mini", " GPT-4 (mini)", "GPT-4\u00a0mini"])
def test_a_model_is_read_as_one_word_that_an_action_can_spell(log: pl.DataFrame, name: str) -> None:
    (read,) = check_samples(log.with_columns(model=pl.lit(name)).unique(KEY), "log")["model"].unique()
    assert read == one_word(name) == "GPT-4-mini"
    assert Action.parse(str(Action(read, "cot", 8))).model == read


def test_a_repeated_key_is_refused(log: pl.DataFrame) -> None:
    with pytest.raises(DatasetError, match=r"log row 3: .*sample_index=3.* more than once"):
        check_samples(pl.concat([log, log[3:4]]), "log")


def test_an_empty_log_missing_columns_and_other_types_are_refused(tmp_path: Path, log: pl.DataFrame) -> None:
    with pytest.raises(DatasetError, match="no rows"):
        check_samples(log.clear(), "log")
    with pytest.raises(DatasetError, match="missing columns model, correct"):
        check_samples(log.drop("model", "correct"), "log")
    with pytest.raises(DatasetError, match="column completion_tokens is String"):
        check_samples(log.with_columns(completion_tokens=pl.lit("many")), "log")
    with pytest.raises(DatasetError, match="no sample log was given"):
        read_samples([])
    with pytest.raises(DatasetError):
        write_samples(tmp_path / "bad.parquet", log.clear())
    assert not (tmp_path / "bad.parquet").exists()
