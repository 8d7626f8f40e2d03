"""Every format that can be imported, how to tell one from another, and many files as one log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import is_zipfile

import msgspec
from msgspec.structs import replace

from rheostat.data.errors import DatasetError
from rheostat.data.importers.answer_rows import CORRECT, MODEL, QUESTION, read_answer_rows
from rheostat.data.importers.fields import AS_WRITTEN, SEPARATED, Options, csv_rows, first_value
from rheostat.data.importers.inspect_logs import read_inspect
from rheostat.data.importers.lm_eval import read_lm_eval
from rheostat.data.importers.mlflow_traces import read_traces
from rheostat.data.importers.pairs import PROMPT, read_pairs
from rheostat.data.importers.wide_scores import COST, read_wide_scores
from rheostat.data.parquet import parquet_columns
from rheostat.data.samples import one_word
from rheostat.data.schema import Sample


class Format(NamedTuple):
    """A reader, and what its files look like."""

    read: Callable[[Path, Options], Iterator[Sample]]
    looks: str


FORMATS = {
    "rows": Format(read_answer_rows, f"CSV, Parquet or JSON lines, a row an answer, with {QUESTION[0]}, {MODEL} and {CORRECT}"),
    "lm-eval": Format(read_lm_eval, "samples_TASK_TIME.jsonl of lm-evaluation-harness, in a folder named as the model"),
    "inspect": Format(read_inspect, "a log of Inspect, .eval or .json"),
    "pairs": Format(read_pairs, f"CSV with {PROMPT} and a column a model that says whether it was right, as RouteLLM's"),
    "wide": Format(read_wide_scores, f"CSV or Parquet with MODEL and MODEL{COST} for every model, as RouterBench's"),
    "mlflow-traces": Format(read_traces, "traces of MLflow, written with Trace.to_json, one a line"),
}
SUFFIXES = (".jsonl", ".json", ".eval", *SEPARATED, ".parquet")
SPREADSHEETS = (".xlsx", ".xls", ".ods")
PICKLES = (".pkl", ".pickle")


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What one file gave. `ungraded` samples carry no reward."""

    path: str
    format: str
    samples: int
    queries: int
    models: list[str]
    ungraded: int
    estimated_tokens: int


def tell_nobody(path: Path, share: float) -> None:
    """Report progress to nobody."""
    del path, share


def read_files(
    paths: Sequence[Path],
    *,
    format: str | None = None,
    options: Options = AS_WRITTEN,
    on_file: Callable[[Path, float], None] = tell_nobody,
) -> tuple[list[Sample], list[Imported]]:
    """The samples of files and folders, and what each file gave.

    Args:
        paths: of any formats; a folder stands for the files below it that can be read.
        format: one of `FORMATS` for all; told from each file when None.
        options: what the formats leave open.
        on_file: told the file and the share of the files done.

    Raises:
        DatasetError: there is no such file, its format is not known, or a row does not fit; names row, column and reason.
    """
    files = [file for path in paths for file in _files(path)]
    samples: list[Sample] = []
    imported = []
    for number, file in enumerate(files):
        on_file(file, number / len(files))
        name = format or sniff(file)
        found = [replace(sample, model=one_word(sample.model)) for sample in _format(name).read(file, options)]
        imported.append(_summary(file, name, found))
        samples += found
    if not samples:
        raise DatasetError(f"{', '.join(map(str, paths))}: no samples in {len(files)} files: are the answers graded?")
    return samples, imported


def sniff(path: Path) -> str:
    """The name of the format of a file.

    Raises:
        DatasetError: it cannot be told; lists the formats.
    """
    if path.suffix in PICKLES:
        raise DatasetError(
            f"{path}: a pickle runs whatever code its author put there, and is never read: convert one that you trust with "
            f"pandas.read_pickle({path.name!r}).to_parquet({path.stem + '.parquet'!r})"
        )
    if path.suffix in SPREADSHEETS:
        raise DatasetError(f"{path}: a spreadsheet is not read: save it as CSV in UTF-8")
    if is_zipfile(path):
        return "inspect"
    columns = set(_columns(path))
    if any(name.endswith(COST) for name in columns):
        return "wide"
    for name, wanted in _SIGNS.items():
        if wanted <= columns and (name != "pairs" or path.suffix in SEPARATED):
            return name
    looks = "; ".join(f"{name}: {each.looks}" for name, each in FORMATS.items())
    raise DatasetError(f"{path}: its format cannot be told from {', '.join(sorted(columns)[:8]) or 'nothing'}: name one ({looks})")


_SIGNS = {
    "inspect": {"eval", "samples"},
    "lm-eval": {"doc_id", "resps"},
    "mlflow-traces": {"info"},
    "rows": {MODEL, CORRECT},
    "pairs": {PROMPT},
}


def _columns(path: Path) -> list[str]:
    """The columns of a table, or the fields of the first JSON object."""
    if path.suffix in SEPARATED:
        return list(next((row.values for row in csv_rows(path)), {}))
    if path.suffix == ".parquet":
        return parquet_columns(path)
    value = first_value(path)
    return list(value) if isinstance(value, dict) else []


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise DatasetError(f"no format {name!r}: known are {', '.join(FORMATS)}")
    return FORMATS[name]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and not file.name.startswith(("results_", ".")))
        if not found:
            raise DatasetError(f"{path}: no file below it ends in {', '.join(SUFFIXES)}: give the folder of the logs")
        return found
    if not path.exists():
        raise DatasetError(f"no file at {path}: give a log, or a folder of logs")
    return [path]


def _summary(file: Path, name: str, samples: Sequence[Sample]) -> Imported:
    return Imported(
        path=str(file),
        format=name,
        samples=len(samples),
        queries=len({(sample.dataset, sample.query_id) for sample in samples}),
        models=sorted({sample.model for sample in samples}),
        ungraded=sum(sample.correct is None for sample in samples),
        estimated_tokens=sum(sample.tokens_source != "logged" for sample in samples),
    )
