"""Logs of Inspect: a JSON file, or the zip (.eval) that holds a header and one JSON file a sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

from rheostat.data.errors import DatasetError
from rheostat.data.importers.fields import ESTIMATED, LOGGED, Row, json_object, tokens_of
from rheostat.data.schema import Sample

GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}


def read_inspect(path: Path, *, scorer: str | None = None) -> Iterator[Sample]:
    """The samples of one log; an epoch is a sample index.

    Args:
        path: `.json` or `.eval`.
        scorer: whose score is the reward; the first one's when None.

    Raises:
        DatasetError: the file or a sample does not fit; names sample, field and reason.
    """
    head, samples = _zipped(path) if is_zipfile(path) else _plain(path)
    task, model = head.get("eval.task"), head.get("eval.model")
    for row in samples:
        yield _sample(row, str(task), str(model), scorer)


def _plain(path: Path) -> tuple[Row, Iterator[Row]]:
    try:
        head = json_object(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {path} ({error}): give a log of Inspect") from error
    samples = head.get("samples", list)
    return head, (_row(path, number, values) for number, values in enumerate(samples, start=1))


def _row(path: Path, number: int, values: Any) -> Row:
    if not isinstance(values, dict):
        raise DatasetError(f"{path} row {number}: the sample is no JSON object")
    return Row(path, number, values)


def _zipped(path: Path) -> tuple[Row, Iterator[Row]]:
    try:
        with ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json"))
            head = json_object(path, archive.read("header.json").decode())
            rows = [json_object(path, archive.read(name).decode(), number) for number, name in enumerate(names, start=1)]
    except (BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is no finished log of Inspect ({error}): export it again") from error
    return head, iter(rows)


def _sample(row: Row, task: str, model: str, scorer: str | None) -> Sample:
    score = _score(row, scorer)
    text, usage = _text(row), row.values.get("model_usage") or {}
    used: dict[str, Any] = usage.get(model) or next(iter(usage.values()), {})
    completion = str((row.values.get("output") or {}).get("completion") or "")
    return Sample(
        dataset=task,
        query_id=str(row.get("id", (int, str))),
        query_text=text,
        model=model,
        strategy="inspect",
        sample_index=int(row.values.get("epoch", 1)) - 1,
        temperature=0.0,
        answer=score.get("answer") or None,
        gold=str(row.values.get("target", "")),
        correct=_reward(row, score.get("value")),
        prompt_tokens=int(used.get("input_tokens", tokens_of(text))),
        completion_tokens=int(used.get("output_tokens", tokens_of(completion))),
        latency_s=float(row.values.get("total_time") or 0.0),
        tokens_source=LOGGED if used else ESTIMATED,
        source="inspect",
    )


def _score(row: Row, scorer: str | None) -> dict[str, Any]:
    scores = row.get("scores", dict)
    name = scorer or next(iter(scores), None)
    if name is None or not isinstance(scores.get(name), dict):
        raise row.error("scores", f"has no score {name or 'at all'}")
    return dict(scores[name])


def _reward(row: Row, value: Any) -> float:
    if isinstance(value, str) and value in GRADES:
        return GRADES[value]
    return Row(row.path, row.number, {"value": value}).share("value")


def _text(row: Row) -> str:
    """The input: a text, or the last user message of a conversation."""
    found = row.get("input", (str, list))
    if isinstance(found, str):
        return found
    texts = [message.get("content") for message in found if isinstance(message, dict) and message.get("role") == "user"]
    if not texts or not isinstance(texts[-1], str):
        raise row.error("input", "has no user message of plain text")
    return str(texts[-1])
