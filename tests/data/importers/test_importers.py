"""Foreign logs: what comes out fits a sample log, and what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.importers.fields import Options
from rheostat.data.importers.inspect_logs import read_inspect
from rheostat.data.importers.lm_eval import read_lm_eval
from rheostat.data.importers.mlflow_traces import read_traces
from rheostat.data.importers.pairs import read_pairs
from rheostat.data.importers.wide_scores import read_wide_scores
from rheostat.data.samples import check_samples, samples_frame
from rheostat.data.schema import Sample

M, M_FLEXIBLE = Options(model="m"), Options(model="m", filter="flexible")

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
ASKED = {"model": "lab/m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 9 + 9?"}]}
TRACE = {
    "info": {
        "trace_id": "tr-029675476d93856f7ab8c6a5ef3b3cd9",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "1"}},
        "request_time": "2026-01-01T05:38:51.865Z",
        "state": "OK",
        "execution_duration_ms": 250,
        "request_preview": "What is...",
        "response_preview": "It...",
        "trace_metadata": {"mlflow.trace.tokenUsage": '{"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}'},
        "assessments": [
            {
                "assessment_id": f"a-{name}",
                "assessment_name": name,
                "trace_id": "tr-029675476d93856f7ab8c6a5ef3b3cd9",
                "source": {"source_type": "CODE", "source_id": "default"},
                "create_time": "2026-01-01T05:38:56.880Z",
                "last_update_time": "2026-01-01T05:38:56.880Z",
                "valid": True,
                **value,
            }
            for name, value in (
                ("correct", {"feedback": {"value": True}}),
                ("expected_response", {"expectation": {"value": "18"}}),
            )
        ],
        "tags": {"mlflow.traceName": "chat"},
    },
    "data": {
        "spans": [
            {
                "trace_id": "ApZ1R22ThW96uMal7zs82Q==",
                "span_id": "y4pX0wvrw74=",
                "parent_span_id": None,
                "name": "chat",
                "start_time_unix_nano": 1795325931865210426,
                "end_time_unix_nano": 1795325933330284547,
                "events": [],
                "status": {"code": "STATUS_CODE_OK", "message": ""},
                "attributes": {
                    "mlflow.traceRequestId": '"tr-029675476d93856f7ab8c6a5ef3b3cd9"',
                    "mlflow.spanType": '"CHAT_MODEL"',
                    "mlflow.spanInputs": json.dumps(ASKED),
                    "mlflow.spanOutputs": json.dumps({"choices": [{"message": {"role": "assistant", "content": "It is 18."}}]}),
                    "mlflow.llm.model": '"lab/m"',
                },
                "links": [],
            }
        ]
    },
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
    (sample,) = checked(list(read_lm_eval(path, M)))
    assert (sample.dataset, sample.query_id, sample.answer, sample.correct) == ("gsm8k", "3", "18", 1.0)
    assert sample.query_text == "What is 9 + 9?"
    (other,) = read_lm_eval(path, M_FLEXIBLE)
    assert other.correct == 0.0


@pytest.mark.parametrize(
    "layout",
    [
        {"arguments": [["Which?", " A"], ["Which?", " B"]], "resps": [[[-1.5, False]], [[-0.5, True]]]},
        {
            "arguments": {f"gen_args_{i}": {"arg_0": "Which?", "arg_1": f" {letter}"} for i, letter in enumerate("AB")},
            "resps": [[["-1.5", "False"]], [["-0.5", "True"]]],
        },
    ],
    ids=["lists", "named"],
)
def test_harness_choices_are_answered_with_the_likeliest_continuation(layout, tmp_path):
    row = HARNESS | layout | {"filtered_resps": [["-1.5", "False"], ["-0.5", "True"]], "metrics": ["acc", "acc_norm"], "acc": 0}
    (sample,) = checked(list(read_lm_eval(lines(tmp_path / "mmlu.jsonl", row), M)))
    assert (sample.dataset, sample.query_text, sample.answer, sample.correct) == ("mmlu", "Which?", "B", 0.0)
    assert (sample.completion_tokens, sample.kind) == (1, "choice")


def test_harness_rows_without_a_list_of_metrics_have_them_behind_the_harness_s_own_columns(tmp_path):
    row = {key: value for key, value in HARNESS.items() if key != "metrics"} | {"doc_hash": "0", "f1": 0.5}
    assert next(read_lm_eval(lines(tmp_path / "s.jsonl", row), M)).correct == 1.0
    assert next(read_lm_eval(lines(tmp_path / "s.jsonl", row), Options(model="m", score="f1"))).correct == 0.5


@pytest.mark.parametrize(
    "prompt",
    [
        "Question: What is 1 + 1?\nAnswer: 2\n\nQuestion: How much is nine and nine?\nAnswer:",
        json.dumps([{"role": "user", "content": "Be brief.\nQuestion: How much is nine and nine?\nAnswer:"}]),
    ],
    ids=["examples", "chat"],
)
def test_harness_prompts_are_cut_to_the_document_s_own_part(prompt, tmp_path):
    row = HARNESS | {"doc": {"question": "How much is nine and nine?", "answer": "18"}, "arguments": {"gen_args_0": {"arg_0": prompt}}}
    (sample,) = read_lm_eval(lines(tmp_path / "s.jsonl", row), M)
    assert sample.query_text == "How much is nine and nine?\nAnswer:"
    assert sample.prompt_tokens == -(-len(prompt) // 4)


def test_harness_model_is_the_folder_s_name_and_temperature_the_request_s(tmp_path):
    folder = tmp_path / "lab__model-7b"
    folder.mkdir()
    settings = {"gen_args_0": {"arg_0": "Q?", "arg_1": {"do_sample": True, "temperature": 0.7, "until": ["Q:"]}}}
    (sample,) = read_lm_eval(lines(folder / "samples_t_2025-01-01T00-00-00.123.jsonl", HARNESS | {"arguments": settings}))
    assert (sample.model, sample.temperature, sample.dataset) == ("lab/model-7b", 0.7, "t")


def test_line_breaks_that_json_allows_inside_a_text_do_not_end_the_row(tmp_path):
    row = HARNESS | {"arguments": [["one\u2028two\x85three", {}]]}
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert next(read_lm_eval(path, M)).query_text == "one\u2028two\x85three"


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
    (found,) = checked(list(read_inspect(log(tmp_path / "log.json", sample), Options(score="b"))))
    assert (found.correct, found.tokens_source) == (reward, "estimated: characters / 4")


def test_inspect_samples_that_ended_in_an_error_are_ungraded(tmp_path):
    (found,) = checked(list(read_inspect(log(tmp_path / "log.json", INSPECT | {"scores": None, "error": {"message": "timeout"}}))))
    assert found.correct is None


def test_inspect_inputs_may_be_parts_and_attachments(tmp_path):
    parts = INSPECT | {"input": [{"role": "user", "content": [{"type": "text", "text": "attachment://0a"}]}], "attachments": {"0a": "Q?"}}
    (found,) = read_inspect(log(tmp_path / "log.json", parts), Options(model="other"))
    assert (found.query_text, found.model) == ("Q?", "other")


def test_inspect_states_the_temperature_for_the_whole_log(tmp_path):
    head = {"task": "t", "model": "m", "model_generate_config": {"temperature": 0.6}}
    (tmp_path / "log.json").write_text(json.dumps({"eval": head, "samples": [INSPECT]}))
    assert next(read_inspect(tmp_path / "log.json")).temperature == 0.6


def test_a_zip_with_a_compression_python_lacks_says_how_to_convert_it(tmp_path):
    path = tmp_path / "log.eval"
    with ZipFile(path, "w") as archive:
        archive.writestr("header.json", "{}")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + offset] = 93  # Zstandard
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="inspect log convert --to json"):
        list(read_inspect(path))


def test_pairs_give_a_sample_for_every_model(tmp_path):
    path = tmp_path / "mmlu.csv"
    path.write_text('prompt,strong,weak,weak_response\n"Which, a or b?",True,False,\nQ?,False,True,b\n')
    assert [(s.query_id, s.model, s.correct, s.answer) for s in checked(list(read_pairs(path)))] == [
        ("1", "weak", 0.0, None),
        ("2", "weak", 1.0, "b"),
    ]
    path.write_text("prompt,strong,weak\nQ?,True,0\n")
    assert [(s.model, s.correct) for s in checked(list(read_pairs(path)))] == [("strong", 1.0), ("weak", 0.0)]


def test_a_verdict_that_was_left_blank_is_ungraded_and_not_wrong(tmp_path):
    path = tmp_path / "mmlu.csv"
    path.write_text("prompt,strong,weak\nQ?,,no\n")
    assert [(s.model, s.correct) for s in checked(list(read_pairs(path)))] == [("strong", None), ("weak", 0.0)]
    (nothing,) = checked(list(read_lm_eval(lines(tmp_path / "s.jsonl", HARNESS | {"exact_match": None}), M)))
    assert nothing.correct is None


def test_wide_tables_are_read_from_csv_and_parquet(tmp_path):
    columns = {"sample_id": ["s"], "prompt": ["Q?"], "eval_name": ["e"], "m": [0.5], "m|model_response": ["A"], "m|total_cost": [0.25]}
    pl.DataFrame(columns).write_csv(tmp_path / "t.csv")
    pl.DataFrame(columns).write_parquet(tmp_path / "t.parquet")
    (tmp_path / "marked.csv").write_text((tmp_path / "t.csv").read_text(), encoding="utf-8-sig")
    for name in ("t.csv", "marked.csv", "t.parquet"):
        (sample,) = checked(list(read_wide_scores(tmp_path / name)))
        assert (sample.dataset, sample.model, sample.correct, sample.cost_usd, sample.answer) == ("e", "m", 0.5, 0.25, "a")


def test_wide_prompts_spelled_as_lists_are_read_as_text(tmp_path):
    columns = {"sample_id": "s", "prompt": "['What is 9 + 9?']", "eval_name": "e", "m": 1.0, "m|model_response": "['It is 18.']"}
    pl.DataFrame(columns | {"m|total_cost": 0.1}).write_parquet(tmp_path / "t.parquet")
    (sample,) = read_wide_scores(tmp_path / "t.parquet")
    assert (sample.query_text, sample.answer) == ("What is 9 + 9?", "18")


def test_traces_without_the_assessment_are_left_out(tmp_path):
    bare = {"info": {"trace_id": "tr-2", "assessments": None}}
    (tmp_path / "list.json").write_text(json.dumps([TRACE, bare]))
    for path in (lines(tmp_path / "traces.jsonl", TRACE, bare), tmp_path / "list.json"):
        (sample,) = checked(list(read_traces(path)))
        assert (sample.query_text, sample.model, sample.answer, sample.gold) == ("What is 9 + 9?", "lab/m", "18", "18")
        assert (sample.correct, sample.completion_tokens, sample.latency_s, sample.tokens_source) == (1.0, 2, 0.25, "logged")


def test_traces_as_the_installed_mlflow_writes_them_are_read(tmp_path):
    from mlflow.entities import Trace

    (tmp_path / "t.jsonl").write_text(Trace.from_dict(TRACE).to_json() + "\n")
    assert list(read_traces(tmp_path / "t.jsonl")) == list(read_traces(lines(tmp_path / "own.jsonl", TRACE)))


def test_traces_of_one_question_are_samples_of_one_query(tmp_path):
    found = checked(list(read_traces(lines(tmp_path / "t.jsonl", TRACE, TRACE))))
    other = list(read_traces(lines(tmp_path / "o.jsonl", TRACE), Options(model="other")))
    assert [sample.sample_index for sample in found] == [0, 1]
    assert len({sample.query_id for sample in [*found, *other]}) == 1


@pytest.mark.parametrize(
    ("inputs", "question"),
    [("Q?", "Q?"), ({"question": "Q?"}, "Q?"), ({"question": "Q?", "user": "u"}, '{"question": "Q?", "user": "u"}'), (["Q?"], '["Q?"]')],
)
def test_traced_functions_may_take_what_they_like(inputs, question, tmp_path):
    span = TRACE["data"]["spans"][0]
    attributes = span["attributes"] | {"mlflow.spanInputs": json.dumps(inputs)}
    trace = TRACE | {"data": {"spans": [span | {"attributes": attributes}]}}
    assert next(read_traces(lines(tmp_path / "t.jsonl", trace))).query_text == question


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
        list(read_lm_eval(lines(tmp_path / "s.jsonl", row), M))


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
    broken = TRACE | {"info": TRACE["info"] | {"trace_metadata": {"mlflow.trace.tokenUsage": "{"}}}
    with pytest.raises(DatasetError, match=r"row 2: mlflow\.trace\.tokenUsage is not JSON"):
        list(read_traces(lines(tmp_path / "t.jsonl", TRACE, broken)))
    with pytest.raises(DatasetError, match="row 1: info is missing"):
        list(read_traces(lines(tmp_path / "t.jsonl", {})))
    with pytest.raises(DatasetError, match=r"row 1: mlflow\.spanInputs holds no question"):
        list(read_traces(lines(tmp_path / "t.jsonl", {"info": TRACE["info"] | {"request_preview": None}}), M))
    with pytest.raises(DatasetError, match=r"row 1: info\.tags\.model is missing, and no span names a model"):
        list(read_traces(lines(tmp_path / "t.jsonl", TRACE | {"data": {}})))


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


@pytest.mark.parametrize("read", [lambda path: read_lm_eval(path, M), read_inspect, read_pairs, read_traces])
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
