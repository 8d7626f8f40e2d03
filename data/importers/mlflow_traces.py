"""Traces of MLflow, exported as JSON (a list, or one a line): one sample a trace that was assessed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rheostat.data.importers.fields import ESTIMATED, LOGGED, Row, json_lines, tokens_of
from rheostat.data.schema import Sample

USAGE, INPUTS, OUTPUTS, MODEL = "mlflow.trace.tokenUsage", "mlflow.traceInputs", "mlflow.traceOutputs", "model"


def read_traces(path: Path, *, assessment: str = "correct", model: str | None = None) -> Iterator[Sample]:
    """The traces that carry the assessment; others say nothing about accuracy and are left out.

    Args:
        path: what `Trace.to_json` wrote, many of them.
        assessment: whose value is the reward.
        model: name to record; the trace's tag `model` when None.

    Raises:
        DatasetError: a trace does not fit; names row, field and reason.
    """
    for row in json_lines(path):
        found = [each for each in row.get("info", dict).get("assessments") or [] if _name(each) == assessment]
        if found:
            yield _sample(row, found[-1], model)


def _name(assessment: Any) -> str | None:
    if not isinstance(assessment, dict):
        return None
    return assessment.get("assessment_name") or assessment.get("name")


def _sample(row: Row, assessment: dict[str, Any], model: str | None) -> Sample:
    metadata = row.values["info"].get("trace_metadata") or {}
    usage = _decoded(row, metadata.get(USAGE), USAGE) or {}
    question, answer = (str(metadata.get(name) or row.values["info"].get(preview) or "") for name, preview in _PREVIEWS)
    verdict = (assessment.get("feedback") or assessment.get("expectation") or {}).get("value")
    return Sample(
        dataset="traces",
        query_id=str(row.get("info.trace_id")),
        query_text=question,
        model=model or row.get(f"info.tags.{MODEL}"),
        strategy="trace",
        sample_index=0,
        temperature=0.0,
        answer=answer or None,
        gold="",
        correct=Row(row.path, row.number, {"assessment": verdict}).share("assessment"),
        prompt_tokens=int(usage.get("input_tokens", tokens_of(question))),
        completion_tokens=int(usage.get("output_tokens", tokens_of(answer))),
        latency_s=float(row.values["info"].get("execution_duration_ms") or 0.0) / 1000,
        tokens_source=LOGGED if usage else ESTIMATED,
        source="mlflow",
    )


_PREVIEWS = ((INPUTS, "request_preview"), (OUTPUTS, "response_preview"))


def _decoded(row: Row, text: Any, column: str) -> Any:
    if text is None or isinstance(text, dict):
        return text
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise row.error(column, "is not JSON") from error
