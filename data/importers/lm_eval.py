"""Samples of lm-evaluation-harness (`--log_samples`): one JSON line a document and filter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rheostat.data.importers.fields import ESTIMATED, Row, json_lines, tokens_of
from rheostat.data.schema import Sample

_STAMP = re.compile(r"^samples_(?P<task>.+?)(_\d{4}-\d{2}-\d{2}T.*)?$")


def read_lm_eval(path: Path, model: str, *, metric: str | None = None, filter_name: str | None = None) -> Iterator[Sample]:
    """The samples of one file.

    Args:
        path: `samples_TASK_TIME.jsonl`.
        model: the harness writes it into the folder's name only.
        metric: which column is the reward; the first that the row lists when None.
        filter_name: which filter's rows to take, such as `strict-match`; the first row's when None.

    Raises:
        DatasetError: a row does not fit; names row, column and reason.
    """
    task = _STAMP.fullmatch(path.stem)
    for row in json_lines(path):
        found = row.values.get("filter", "none")
        filter_name = filter_name or str(found)
        if found == filter_name:
            yield _sample(row, model, task["task"] if task else path.stem, metric)


def _sample(row: Row, model: str, task: str, metric: str | None) -> Sample:
    prompt, answer = _prompt(row), _answer(row)
    response = _first(row.get("resps", list))
    return Sample(
        dataset=task,
        query_id=str(row.get("doc_id", (int, str))),
        query_text=prompt,
        model=model,
        strategy="lm_eval",
        sample_index=0,
        temperature=0.0,
        answer=answer,
        gold=str(row.values.get("target", "")),
        correct=row.share(metric or _first_metric(row)),
        prompt_tokens=tokens_of(prompt),
        completion_tokens=tokens_of(response) if isinstance(response, str) else 1,
        latency_s=0.0,
        tokens_source=ESTIMATED,
        source="lm-evaluation-harness",
    )


def _prompt(row: Row) -> str:
    """The prompt of the first request, in the layout of now (named) or of before (lists)."""
    arguments = row.get("arguments", (dict, list))
    first: Any = next(iter(arguments.values()), None) if isinstance(arguments, dict) else _first(arguments)
    prompt = first.get("arg_0") if isinstance(first, dict) else first
    if not isinstance(prompt, str):
        raise row.error("arguments", "holds no prompt")
    return prompt


def _answer(row: Row) -> str | None:
    answer = _first(row.get("filtered_resps", list))
    return answer if isinstance(answer, str) and answer != "[invalid]" else None


def _first_metric(row: Row) -> str:
    metrics = row.get("metrics", list)
    if not metrics:
        raise row.error("metrics", "lists none")
    return str(metrics[0])


def _first(values: Any) -> Any:
    """The innermost first element of nested lists."""
    while isinstance(values, list) and values:
        values = values[0]
    return values
