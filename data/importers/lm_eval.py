"""Samples of lm-evaluation-harness (`--log_samples`): one JSON line a document and filter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rheostat.data.answers import infer_kind
from rheostat.data.importers.fields import AS_WRITTEN, ESTIMATED, Options, Row, json_lines, tokens_of
from rheostat.data.schema import Sample

MIN_QUESTION_CHARS = 12  # shorter fields of a document, such as a letter or a subject, are found by accident
_STAMP = re.compile(r"^samples_(?P<task>.+?)(_\d{4}-\d{2}-\d{2}T.*)?$")
_OWN = frozenset(
    {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash"}
)


def read_lm_eval(path: Path, options: Options = AS_WRITTEN) -> Iterator[Sample]:
    """The samples of one file, `samples_TASK_TIME.jsonl`.

    Args:
        path: the harness writes the model's name into the folder's only.
        options: model, strategy, score (the first metric that the row lists when None) and filter (that of the first row).

    Raises:
        DatasetError: a row does not fit; names row, column and reason.
    """
    task = _STAMP.fullmatch(path.stem)
    model = options.model or path.resolve().parent.name.replace("__", "/")
    wanted = options.filter
    for row in json_lines(path):
        found = str(row.values.get("filter", "none"))
        wanted = wanted or found
        if found == wanted:
            yield _sample(row, model, task["task"] if task else path.stem, options)


def _sample(row: Row, model: str, task: str, options: Options) -> Sample:
    requests = _requests(row)
    prompt = requests[0][0]
    question = _question(prompt, row.values.get("doc"))
    chosen = _chosen(row, requests)
    response = _first(row.get("resps", list))
    return Sample(
        dataset=task,
        query_id=str(row.get("doc_id", (int, str))),
        query_text=question,
        model=model,
        strategy=options.strategy,
        sample_index=0,
        temperature=_temperature(requests),
        answer=chosen or _answer(row, requests),
        gold=str(row.values.get("target", "")),
        correct=row.share(options.score or _first_metric(row)),
        prompt_tokens=tokens_of(prompt),
        completion_tokens=tokens_of(response) if isinstance(response, str) and chosen is None else 1,
        latency_s=0.0,
        kind="choice" if chosen else infer_kind(question),
        tokens_source=ESTIMATED,
        source="lm-evaluation-harness",
    )


def _requests(row: Row) -> list[tuple[str, Any]]:
    """Prompt and second argument of every request, in the layout of now (named) or of before (lists)."""
    arguments = row.get("arguments", (dict, list))
    requests = [_request(each) for each in (arguments.values() if isinstance(arguments, dict) else arguments)]
    if not requests or not all(isinstance(prompt, str) for prompt, _ in requests):
        raise row.error("arguments", "holds no prompt")
    return requests


def _request(arguments: Any) -> tuple[Any, Any]:
    if isinstance(arguments, dict):
        return arguments.get("arg_0"), arguments.get("arg_1")
    first, second, *_ = [*arguments, None, None] if isinstance(arguments, list) else [arguments, None]
    return first, second


def _question(prompt: str, doc: Any) -> str:
    """The document's own part of a prompt: examples and instructions before it are the same for every document."""
    text = _last_turn(prompt)
    fields = [value for value in doc.values() if isinstance(value, str)] if isinstance(doc, dict) else []
    inside = [value.strip() for value in fields if len(value.strip()) >= MIN_QUESTION_CHARS and value.strip() in text]
    return text[text.rfind(max(inside, key=len)) :] if inside else text


def _last_turn(prompt: str) -> str:
    """What is asked last, where a chat template wrote the prompt as JSON messages."""
    if not prompt.startswith("["):
        return prompt
    try:
        turns = json.loads(prompt)
    except (ValueError, RecursionError):
        return prompt
    last = turns[-1] if isinstance(turns, list) and turns else None
    content = last.get("content") if isinstance(last, dict) else None
    return content if isinstance(content, str) else prompt


def _chosen(row: Row, requests: list[tuple[str, Any]]) -> str | None:
    """The most likely continuation of a multiple-choice document; None where the model wrote its answer."""
    if not all(isinstance(continuation, str) for _, continuation in requests):
        return None
    try:
        chances = [float(_first(response)) for response in row.get("resps", list)]
    except (TypeError, ValueError) as error:
        raise row.error("resps", "holds no log-likelihood for each continuation") from error
    if len(chances) != len(requests):
        raise row.error("resps", f"has {len(chances)} entries, arguments {len(requests)}")
    return str(requests[chances.index(max(chances))][1]).strip() or None


def _answer(row: Row, requests: list[tuple[str, Any]]) -> str | None:
    answer = _first(row.get("filtered_resps", list))
    written = requests[0][1] is None or isinstance(requests[0][1], dict)
    return answer if written and isinstance(answer, str) and answer != "[invalid]" else None


def _temperature(requests: list[tuple[str, Any]]) -> float:
    settings = requests[0][1]
    temperature = settings.get("temperature") if isinstance(settings, dict) and settings.get("do_sample", True) else 0.0
    return float(temperature) if isinstance(temperature, int | float) else 0.0


def _first_metric(row: Row) -> str:
    """The first metric a row lists; older rows list none, and hold them behind the harness's own columns."""
    metrics = row.values.get("metrics", [name for name in row.values if name not in _OWN])
    if not isinstance(metrics, list) or not metrics:
        raise row.error("metrics", "lists none")
    return str(metrics[0])


def _first(values: Any) -> Any:
    """The innermost first element of nested lists."""
    while isinstance(values, list) and values:
        values = values[0]
    return values
