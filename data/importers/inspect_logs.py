"""Logs of Inspect: a JSON file, or the zip (.eval) that holds a header and one JSON file a sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

from rheostat.data.answers import infer_kind
from rheostat.data.errors import DatasetError
from rheostat.data.importers.fields import AS_WRITTEN, ESTIMATED, LOGGED, Options, Row, answer_in, json_object, tokens_of
from rheostat.data.schema import Sample, message_text

GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
ATTACHMENT = "attachment://"


def read_inspect(path: Path, options: Options = AS_WRITTEN) -> Iterator[Sample]:
    """The samples of one log; an epoch is a sample index. A sample that ended in an error was not graded.

    Args:
        path: `.json` or `.eval`.
        options: model, strategy, and score: whose is the reward, the first scorer's when None.

    Raises:
        DatasetError: the file or a sample does not fit; names sample, field and reason.
    """
    rows = _zipped(path) if is_zipfile(path) else _plain(path)
    head = next(rows)
    for row in rows:
        yield _sample(row, head, options)


def _plain(path: Path) -> Iterator[Row]:
    """The header, then the samples."""
    try:
        head = json_object(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {path} ({error}): give a log of Inspect") from error
    yield head
    for number, values in enumerate(head.get("samples", list), start=1):
        if not isinstance(values, dict):
            raise DatasetError(f"{path} row {number}: the sample is no JSON object")
        yield Row(path, number, values)


def _zipped(path: Path) -> Iterator[Row]:
    """The header, then the samples, one at a time: with their events they are large."""
    try:
        with ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json"))
            yield json_object(path, archive.read("header.json").decode())
            for number, name in enumerate(names, start=1):
                yield json_object(path, archive.read(name).decode(), number)
    except NotImplementedError as error:
        raise DatasetError(f"{path}: {error}: write it as JSON, inspect log convert --to json --output-dir FOLDER {path.name}") from error
    except (BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is no finished log of Inspect ({error}): export it again") from error


def _sample(row: Row, head: Row, options: Options) -> Sample:
    model = str(head.get("eval.model"))
    text, completion = _text(row), str((row.values.get("output") or {}).get("completion") or "")
    usage = row.values.get("model_usage") or {}
    used: dict[str, Any] = usage.get(model) or next(iter(usage.values()), {})
    score = _score(row, options.score)
    return Sample(
        dataset=str(head.get("eval.task")),
        query_id=str(row.get("id", (int, str))),
        query_text=text,
        model=options.model or model,
        strategy=options.strategy,
        sample_index=int(row.values.get("epoch", 1)) - 1,
        temperature=_temperature(head),
        answer=_answer(score, completion, text),
        gold=_target(row.values.get("target", "")),
        correct=_reward(row, score),
        prompt_tokens=int(used.get("input_tokens", tokens_of(text))),
        completion_tokens=int(used.get("output_tokens", tokens_of(completion))),
        latency_s=float(row.values.get("working_time") or row.values.get("total_time") or 0.0),
        kind=infer_kind(text),
        tokens_source=LOGGED if used else ESTIMATED,
        source="inspect",
    )


def _temperature(head: Row) -> float:
    """What the whole log was generated with; models differ in their default, which no log states."""
    for part in (head.values["eval"].get("model_generate_config"), (head.values.get("plan") or {}).get("config")):
        if isinstance(part, dict) and isinstance(part.get("temperature"), int | float):
            return float(part["temperature"])
    return 0.0


def _score(row: Row, scorer: str | None) -> dict[str, Any] | None:
    """The score that counts; None where the sample ended in an error before it got one."""
    if row.values.get("error") and not row.values.get("scores"):
        return None
    scores = row.get("scores", dict)
    name = scorer or next(iter(scores), None)
    if name is None or not isinstance(scores.get(name), dict):
        raise row.error("scores", f"has no score {name or 'at all'}")
    return dict(scores[name])


def _reward(row: Row, score: dict[str, Any] | None) -> float | None:
    if score is None:
        return None
    value = score.get("value")
    if isinstance(value, str) and value in GRADES:
        return GRADES[value]
    return Row(row.path, row.number, {"value": value}).share("value")


def _answer(score: dict[str, Any] | None, completion: str, question: str) -> str | None:
    stated = (score or {}).get("answer")
    return stated if isinstance(stated, str) and stated else answer_in(completion, question)


def _target(target: Any) -> str:
    return ", ".join(map(str, target)) if isinstance(target, list) else str(target)


def _text(row: Row) -> str:
    """The input: a text, or the last user message of a conversation."""
    found = row.get("input", (str, list))
    messages = [message for message in found if isinstance(message, dict)] if isinstance(found, list) else []
    texts = [message_text(message) for message in messages if message.get("role") == "user"]
    text = found if isinstance(found, str) else texts[-1] if texts else ""
    text = str((row.values.get("attachments") or {}).get(text.removeprefix(ATTACHMENT), text)) if text.startswith(ATTACHMENT) else text
    if not text:
        raise row.error("input", "has no user message with text")
    return text
