"""Tables of one's own with one row an answer: CSV, Parquet or JSON lines, in any order."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from rheostat.data.answers import infer_kind
from rheostat.data.importers.fields import AS_WRITTEN, ESTIMATED, LOGGED, Options, Row, answer_in, table_rows, tokens_of
from rheostat.data.schema import Sample

QUESTION = ("query_text", "question", "prompt")  # the first of them that a table has
MODEL, CORRECT, TOKENS = "model", "correct", "completion_tokens"

T = TypeVar("T")

Cell = tuple[str, str, str, str]


def read_answer_rows(path: Path, options: Options = AS_WRITTEN) -> Iterator[Sample]:
    """One sample a row: a question, the model and whether it was right, and what else the table knows of the names of `Sample`.

    Without a `query_id`, rows of the same question are of one query. Without a `sample_index`, rows of one query, model and
    strategy are numbered as they come. A `response` gives answer and tokens where the table has none.

    Args:
        path: a table; its name is the data set's where no column is.
        options: model and strategy where no column says so, and score (the column that is the reward, `correct` when None).

    Raises:
        DatasetError: a row does not fit, repeats a sample, or has another question than its query; names row and column.
    """
    asked: dict[tuple[str, str], Row] = {}
    drawn: dict[tuple[Cell, float, int], Row] = {}
    times: Counter[Cell] = Counter()
    for written in table_rows(path):
        row = Row(path, written.number, {name: None if _blank(value) else value for name, value in written.values.items()})
        sample = _sample(row, options)
        cell = (sample.dataset, sample.query_id, sample.model, sample.strategy)
        sample = replace(sample, sample_index=_or(row.amount("sample_index", int), times[cell]))
        times[cell] += 1
        head = asked.setdefault(cell[:2], row)
        if _question(head) != sample.query_text:
            raise row.error(_question_column(row), f"is not what row {head.number} asks under query_id {sample.query_id!r}")
        again = drawn.setdefault((cell, sample.temperature, sample.sample_index), row)
        if again is not row:
            raise row.error("sample_index", f"is {sample.sample_index}, as in row {again.number} of the same query, model and strategy")
        yield sample


def _sample(row: Row, options: Options) -> Sample:
    question = _question(row)
    response = _text(row, "response") or _text(row, "answer") or ""
    return Sample(
        dataset=_text(row, "dataset") or row.path.stem,
        query_id=_text(row, "query_id") or hashlib.sha256(question.encode("utf-8", "replace")).hexdigest()[:16],
        query_text=question,
        model=_text(row, MODEL) or options.model or row.get(MODEL),
        strategy=_text(row, "strategy") or options.strategy,
        sample_index=0,
        temperature=_or(row.amount("temperature"), 0.0),
        answer=_text(row, "answer") or answer_in(response, question),
        gold=_text(row, "gold") or "",
        correct=row.share(options.score or CORRECT),
        prompt_tokens=_or(row.amount("prompt_tokens", int), tokens_of(question)),
        completion_tokens=_generated(row, response),
        latency_s=_or(row.amount("latency_s"), 0.0),
        kind=infer_kind(question),
        level=_or(row.amount("level", int), 0),
        tokens_source=LOGGED if row.values.get(TOKENS) is not None else ESTIMATED,
        source="rows",
        cost_usd=row.amount("cost_usd"),
    )


def _question(row: Row) -> str:
    return str(row.get(_question_column(row)))


def _question_column(row: Row) -> str:
    return next((name for name in QUESTION if name in row.values), QUESTION[0])


def _generated(row: Row, response: str) -> int:
    """Tokens as counted, or as estimated; one an answer in a table that knows nothing of them."""
    counted = row.amount(TOKENS, int)
    if counted is None and TOKENS in row.values and not response:
        raise row.error(TOKENS, "is blank and there is no response to estimate it from (0 where the call failed)")
    return _or(counted, max(tokens_of(response), 1))


def _text(row: Row, column: str) -> str | None:
    value = row.values.get(column)
    return None if value is None else str(value)


def _blank(value: object) -> bool:
    """Whether a cell says nothing: tables write that as nothing, blanks or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value.strip())


def _or(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
