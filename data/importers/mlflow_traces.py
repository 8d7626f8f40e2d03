"""Traces of MLflow as `Trace.to_json` writes them (a list, or one a line): one sample a trace that was assessed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rheostat.data.answers import infer_kind
from rheostat.data.importers.fields import AS_WRITTEN, ESTIMATED, LOGGED, Options, Row, answer_in, json_lines, tokens_of
from rheostat.data.schema import Sample, message_text

ASSESSMENT, EXPECTED = "correct", "expected_response"
USAGE, MODEL_TAG = "mlflow.trace.tokenUsage", "model"
INPUTS, OUTPUTS, MODEL = "mlflow.spanInputs", "mlflow.spanOutputs", "mlflow.llm.model"


def read_traces(path: Path, options: Options = AS_WRITTEN) -> Iterator[Sample]:
    """The traces that carry the assessment; others say nothing about accuracy and are left out.

    Traces of one question are samples of one query, whichever model answered.

    Args:
        path: what `Trace.to_json` wrote, many of them.
        options: strategy, score (the name of the assessment that is the reward, `correct` when None), and model (the tag
            `model` or the first span that names one when None).

    Raises:
        DatasetError: a trace does not fit; names row, field and reason.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for row in json_lines(path):
        found = _assessments(row, options.score or ASSESSMENT)
        if not found:
            continue
        model, question = options.model or _model(row), _question(row)
        yield _sample(row, found[-1], model, question, seen[model, question], options.strategy)
        seen[model, question] += 1


def _sample(row: Row, assessment: dict[str, Any], model: str, question: str, index: int, strategy: str) -> Sample:
    info = row.values["info"]
    usage = _decoded(row, (info.get("trace_metadata") or {}).get(USAGE), USAGE) or {}
    reply = _said(_root(row, OUTPUTS)) or str(info.get("response_preview") or "")
    gold = _assessments(row, EXPECTED)
    return Sample(
        dataset="traces",
        query_id=hashlib.sha256(question.encode("utf-8", "replace")).hexdigest()[:16],
        query_text=question,
        model=model,
        strategy=strategy,
        sample_index=index,
        temperature=0.0,
        answer=answer_in(reply, question),
        gold=str(_value(gold[-1])) if gold else "",
        correct=Row(row.path, row.number, {"assessment": _value(assessment)}).share("assessment"),
        prompt_tokens=int(usage.get("input_tokens", tokens_of(question))),
        completion_tokens=int(usage.get("output_tokens", tokens_of(reply))),
        latency_s=float(info.get("execution_duration_ms") or 0.0) / 1000,
        kind=infer_kind(question),
        tokens_source=LOGGED if usage else ESTIMATED,
        source="mlflow",
    )


def _assessments(row: Row, name: str) -> list[dict[str, Any]]:
    """Those of a name that were not overridden by a later one."""
    found = [each for each in row.get("info", dict).get("assessments") or [] if isinstance(each, dict) and each.get("valid", True)]
    return [each for each in found if (each.get("assessment_name") or each.get("name")) == name]


def _value(assessment: dict[str, Any]) -> Any:
    return (assessment.get("feedback") or assessment.get("expectation") or {}).get("value")


def _question(row: Row) -> str:
    """What was asked. The previews are cut at some length, so the root span's inputs come first."""
    question = _said(_root(row, INPUTS)) or str(row.values["info"].get("request_preview") or "")
    if not question:
        raise row.error(INPUTS, "holds no question")
    return question


def _model(row: Row) -> str:
    tag = (row.values["info"].get("tags") or {}).get(MODEL_TAG)
    named = [_decoded(row, attributes[MODEL], MODEL) for attributes in _spans(row) if MODEL in attributes]
    model = tag or next(iter(named), None)
    if not isinstance(model, str):
        raise row.error(f"info.tags.{MODEL_TAG}", "is missing, and no span names a model; name one for all traces")
    return model


def _spans(row: Row) -> list[dict[str, Any]]:
    """The attributes of every span, the root first."""
    spans = (row.values.get("data") or {}).get("spans") or []
    ordered = sorted((span for span in spans if isinstance(span, dict)), key=lambda span: span.get("parent_span_id") is not None)
    return [span.get("attributes") or {} for span in ordered]


def _root(row: Row, attribute: str) -> Any:
    spans = _spans(row)
    return _decoded(row, spans[0].get(attribute), attribute) if spans else None


def _said(value: Any) -> str:
    """The text in a request or response: its last user message, its first choice, its only text, or all of it as JSON."""
    if not isinstance(value, dict):
        return value if isinstance(value, str) else "" if value is None else json.dumps(value)
    messages = [each for each in value.get("messages") or [] if isinstance(each, dict) and each.get("role") == "user"]
    choices = [each["message"] for each in value.get("choices") or [] if isinstance(each, dict) and isinstance(each.get("message"), dict)]
    if messages or choices:
        return message_text(messages[-1] if messages else choices[0])
    texts = [each for each in value.values() if isinstance(each, str)]
    return texts[0] if len(texts) == 1 else json.dumps(value)


def _decoded(row: Row, text: Any, column: str) -> Any:
    """An attribute, which MLflow keeps as JSON text."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise row.error(column, "is not JSON") from error
