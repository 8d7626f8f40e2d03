"""Foreign logs: what comes out fits a sample log, and what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.importers.inspect_logs import read_inspect
from rheostat.data.importers.lm_eval import read_lm_eval
from rheostat.data.importers.mlflow_traces import read_traces
from rheostat.data.importers.pairs import read_pairs
from rheostat.data.importers.wide_scores import read_wide_scores
from rheostat.data.samples import check_samples, samples_frame
from rheostat.data.schema import Sample

HARNESS = {
    "doc_id": 3,
    "target": "18",
    "arguments": {"gen_args_0": {"arg_0": "What is 9 + 9?", "arg_1": {}}},
    "resps": [["It is 18."]],
    "filtered_resps": ["18"],
    "filter": "strict-match",
    "metrics": ["exact_match"],
    "exact_match": 1.0,
}
INSPECT = {
    "id": "q1",
    "epoch": 2,
    "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 9 + 9?"}],
    "target": "18",
    "scores": {"match": {"value": "C", "answer": "18"}},
    "output": {"completion": "It is 18."},
    "model_usage": {"lab/model": {"input_tokens": 11, "output_tokens": 5}},
    "total_time": 1.5,
}
TRACE = {
    "info": {
        "trace_id": "tr-1",
        "execution_duration_ms": 250,
        "request_preview": "What is 9 + 9?",
        "response_preview": "18",
        "trace_metadata": {"mlflow.trace.tokenUsage": '{"input_tokens": 7, "output_tokens": 2}'},
        "tags": {"model": "m"},
        "assessments": [{"assessment_name": "correct", "feedback": {"value": True}}],
    }
}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def log(path: Path, *samples: object) -> Path:
    path.write_text(json.dumps({"eval": {"task": "sums", "model": "lab/model"}, "samples": list(samples)}))
    return path


def checked(samples: list[Sample]) -> list[Sample]:
    """The samples, held to what every log must be."""
    check_samples(samples_frame(samples), "imported")
    return samples


def test_harness_samples_keep_prompt_answer_and_score(tmp_path):
    path = lines(tmp_path / "samples_gsm8k_2025-01-01T00-00-00.jsonl", HARNESS, HARNESS | {"filter": "flexible", "exact_match": 0.0})
    (sample,) = checked(list(read_lm_eval(path, "m")))
    assert (sample.dataset, sample.query_id, sample.answer, sample.correct) == ("gsm8k", "3", "18", 1.0)
    assert sample.query_text == "What is 9 + 9?"
    (other,) = read_lm_eval(path, "m", filter_name="flexible")
    assert other.correct == 0.0


def test_harness_choices_of_the_older_layout_have_no_answer(tmp_path):
    row = HARNESS | {
        "arguments": [["Q?", " A"]],
        "resps": [[["-1.0", "False"]]],
        "filtered_resps": [[-1.0, False]],
        "metrics": ["acc"],
        "acc": 0,
    }
    (sample,) = checked(list(read_lm_eval(lines(tmp_path / "mmlu.jsonl", row), "m")))
    assert (sample.dataset, sample.query_text, sample.answer, sample.correct) == ("mmlu", "Q?", None, 0.0)


def test_inspect_logs_are_read_plain_and_zipped(tmp_path):
    with ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("header.json", json.dumps({"eval": {"task": "sums", "model": "lab/model"}}))
        archive.writestr("samples/q1_epoch_2.json", json.dumps(INSPECT))
    plain, zipped = (checked(list(read_inspect(path))) for path in (log(tmp_path / "log.json", INSPECT), tmp_path / "log.eval"))
    assert plain == zipped
    (sample,) = plain
    assert (sample.query_text, sample.sample_index, sample.correct) == ("What is 9 + 9?", 1, 1.0)
    assert (sample.prompt_tokens, sample.completion_tokens, sample.latency_s, sample.tokens_source) == (11, 5, 1.5, "logged")


@pytest.mark.parametrize(("value", "reward"), [("I", 0.0), ("P", 0.5), (0.25, 0.25), (True, 1.0)])
def test_inspect_scores_come_as_grades_numbers_and_verdicts(value, reward, tmp_path):
    sample = INSPECT | {"input": "Q?", "scores": {"a": {"value": "C"}, "b": {"value": value}}, "model_usage": {}}
    (found,) = checked(list(read_inspect(log(tmp_path / "log.json", sample), scorer="b")))
    assert (found.correct, found.tokens_source) == (reward, "estimated: characters / 4")


def test_pairs_give_a_sample_for_every_model(tmp_path):
    path = tmp_path / "mmlu.csv"
    path.write_text('prompt,strong,weak,weak_response\n"Which, a or b?",True,False,\nQ?,False,True,b\n')
    assert [(s.query_id, s.model, s.correct, s.answer) for s in checked(list(read_pairs(path)))] == [
        ("1", "weak", 0.0, None),
        ("2", "weak", 1.0, "b"),
    ]
    path.write_text("prompt,strong,weak\nQ?,True,0\n")
    assert [(s.model, s.correct) for s in checked(list(read_pairs(path)))] == [("strong", 1.0), ("weak", 0.0)]


def test_wide_tables_are_read_from_csv_and_parquet(tmp_path):
    columns = {"sample_id": ["s"], "prompt": ["Q?"], "eval_name": ["e"], "m": [0.5], "m|model_response": ["A"], "m|total_cost": [0.25]}
    pl.DataFrame(columns).write_csv(tmp_path / "t.csv")
    pl.DataFrame(columns).write_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        (sample,) = checked(list(read_wide_scores(tmp_path / name)))
        assert (sample.dataset, sample.model, sample.correct, sample.cost_usd, sample.answer) == ("e", "m", 0.5, 0.25, "A")


def test_traces_without_the_assessment_are_left_out(tmp_path):
    bare = {"info": {"trace_id": "tr-2", "assessments": None}}
    (tmp_path / "list.json").write_text(json.dumps([TRACE, bare]))
    for path in (lines(tmp_path / "traces.jsonl", TRACE, bare), tmp_path / "list.json"):
        (sample,) = checked(list(read_traces(path)))
        assert (sample.query_id, sample.model, sample.correct, sample.completion_tokens) == ("tr-1", "m", 1.0, 2)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (HARNESS | {"exact_match": 3}, "row 1: exact_match is 3, not a score"),
        (HARNESS | {"metrics": []}, "row 1: metrics lists none"),
        (HARNESS | {"arguments": {}}, "row 1: arguments holds no prompt"),
        ({key: value for key, value in HARNESS.items() if key != "resps"}, "row 1: resps is missing"),
        ([1], "row 1: the row is no JSON object"),
    ],
)
def test_harness_rows_that_do_not_fit_are_named(row, words, tmp_path):
    with pytest.raises(DatasetError, match=words):
        list(read_lm_eval(lines(tmp_path / "s.jsonl", row), "m"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": None}, "row 1: id is None, not int or str"),
        ({"scores": {}}, "row 1: scores has no score"),
        ({"scores": {"match": {"value": "maybe"}}}, "row 1: value is 'maybe'"),
        ({"input": [{"role": "user", "content": [1]}]}, "row 1: input has no user message"),
    ],
)
def test_inspect_samples_that_do_not_fit_are_named(change, words, tmp_path):
    with pytest.raises(DatasetError, match=words):
        list(read_inspect(log(tmp_path / "log.json", INSPECT | change)))


def test_traces_that_do_not_fit_are_named(tmp_path):
    broken = {"info": TRACE["info"] | {"trace_metadata": {"mlflow.trace.tokenUsage": "{"}}}
    with pytest.raises(DatasetError, match=r"row 2: mlflow\.trace\.tokenUsage is not JSON"):
        list(read_traces(lines(tmp_path / "t.jsonl", TRACE, broken)))
    with pytest.raises(DatasetError, match="row 1: info is missing"):
        list(read_traces(lines(tmp_path / "t.jsonl", {})))


@pytest.mark.parametrize(
    ("text", "words"),
    [("prompt\nQ?\n", "no column says"), ("prompt,m\nQ?\n", "number of columns"), ("prompt,m\nQ?,perhaps\n", "row 1: m is 'perhaps'")],
)
def test_pairs_that_do_not_fit_are_named(text, words, tmp_path):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DatasetError, match=words):
        list(read_pairs(tmp_path / "p.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sample_id,prompt,eval_name,m\ns,Q?,e,1\n", "no column ends in"),
        ("sample_id,prompt,eval_name,m,m|total_cost\ns,Q?,e,1,dear\n", r"row 1: m\|total_cost is no number"),
    ],
)
def test_wide_rows_that_do_not_fit_are_named(text, words, tmp_path):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(DatasetError, match=words):
        list(read_wide_scores(tmp_path / "w.csv"))


@pytest.mark.parametrize("read", [lambda path: read_lm_eval(path, "m"), read_inspect, read_pairs, read_traces])
def test_files_that_are_missing_or_garbled_are_refused(read, tmp_path):
    with pytest.raises(DatasetError, match="cannot read"):
        list(read(tmp_path / "missing.json"))
    (tmp_path / "garbled.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(DatasetError, match="cannot read"):
        list(read(tmp_path / "garbled.json"))


def test_an_unfinished_zip_is_refused(tmp_path):
    with ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("nothing", "")
    with pytest.raises(DatasetError, match="no finished log"):
        list(read_inspect(tmp_path / "log.eval"))
