"""Which format a file has, and many files as one log."""

from __future__ import annotations

import json

import polars as pl
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.importers.fields import Options
from rheostat.data.importers.formats import FORMATS, read_files, sniff
from rheostat.data.samples import check_samples, samples_frame
from tests.data.importers.test_importers import HARNESS, INSPECT, TRACE, lines, log


def written(folder):
    """One file of every format."""
    wide = {"sample_id": ["s"], "prompt": ["Q?"], "eval_name": ["e"], "m": [0.5], "m|total_cost": [0.25]}
    pl.DataFrame(wide).write_parquet(folder / "w.parquet")
    (folder / "p.csv").write_text("prompt,a b,c\nQ?,1,0\n")
    (folder / "r.csv").write_text("prompt,model,correct\nQ?,m,yes\n")
    return {
        "rows": folder / "r.csv",
        "lm-eval": lines(folder / "samples_t.jsonl", HARNESS),
        "inspect": log(folder / "log.json", INSPECT),
        "pairs": folder / "p.csv",
        "wide": folder / "w.parquet",
        "mlflow-traces": lines(folder / "traces.jsonl", TRACE),
    }


def test_every_format_is_told_from_its_file(tmp_path):
    files = written(tmp_path)
    assert set(files) == set(FORMATS)
    assert {name: sniff(path) for name, path in files.items()} == {name: name for name in files}


def test_a_folder_of_any_formats_is_one_log(tmp_path):
    written(tmp_path)
    (tmp_path / "results_2025.json").write_text("{}")
    told = []
    samples, imported = read_files([tmp_path], on_file=lambda path, share: told.append(share))
    check_samples(samples_frame(samples), "imported")
    assert sorted(file.format for file in imported) == sorted(FORMATS)
    assert sum(file.samples for file in imported) == len(samples) == 7
    assert told == [number / 6 for number in range(6)]
    assert "a-b" in {sample.model for sample in samples}


def test_a_pickle_is_never_read_and_the_error_says_how_to_convert_it(tmp_path):
    (tmp_path / "bench.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DatasetError, match=r"never read.*read_pickle\('bench\.pkl'\)\.to_parquet\('bench\.parquet'\)"):
        read_files([tmp_path / "bench.pkl"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", '{"x": 1}', "cannot be told from x: name one .rows: CSV, Parquet or JSON lines.*lm-eval: samples_TASK"),
        ("a.json", "[]", "cannot be told from nothing"),
        ("a.jsonl", "{", "row 1: not JSON"),
        ("a.csv", "question,m\nQ?,1\n", "cannot be told from m, question"),
        ("a.csv", "prompt,m,m\nQ?,1,0\n", "the column 'm' comes twice"),
        ("a.jsonl", '{"prompt": "Q?", "correct": true}', "cannot be told from correct, prompt"),
        ("a.xlsx", "PK", "a spreadsheet is not read: save it as CSV"),
        ("a.txt", b"\xff\xfe", "cannot read"),
        ("a.jsonl", json.dumps({"info": {}}), "no samples in 1 files"),
    ],
)
def test_what_cannot_be_imported_says_why(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=words):
        read_files([tmp_path / name])


def test_missing_files_empty_folders_and_unknown_formats_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no file at .*nowhere"):
        read_files([tmp_path / "nowhere"])
    with pytest.raises(DatasetError, match="no file below it ends in"):
        read_files([tmp_path])
    with pytest.raises(DatasetError, match="no format 'xml': known are rows, lm-eval"):
        read_files([lines(tmp_path / "s.jsonl", HARNESS)], format="xml", options=Options(model="m"))
