"""CSV pairs as RouteLLM publishes them: a prompt, and one column a model that says whether it was right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rheostat.data.errors import DatasetError
from rheostat.data.importers.fields import AS_WRITTEN, Options, Row, csv_rows, sample_of_texts
from rheostat.data.schema import Sample

PROMPT = "prompt"
RESPONSE = "_response"


def read_pairs(path: Path, options: Options = AS_WRITTEN) -> Iterator[Sample]:
    """One sample a model and row. A column `MODEL_response` beside a model's gives its text.

    Args:
        path: the CSV file; its name is the data set's.
        options: the strategy.

    Raises:
        DatasetError: there are no model columns, or a row does not fit; names row, column and reason.
    """
    for row in csv_rows(path):
        models = [name for name in row.values if f"{name}{RESPONSE}" in row.values] or _verdicts(row)
        if not models:
            raise DatasetError(f"{path}: no column says whether a model was right: give {PROMPT} and one column a model")
        for model in models:
            yield _sample(row, model, options.strategy)


def _verdicts(row: Row) -> list[str]:
    return [name for name in row.values if name and name != PROMPT and not name.endswith(RESPONSE)]


def _sample(row: Row, model: str, strategy: str) -> Sample:
    prompt, response = row.get(PROMPT), str(row.values.get(f"{model}{RESPONSE}", ""))
    return sample_of_texts(
        row,
        prompt=prompt,
        response=response,
        model=model,
        strategy=strategy,
        dataset=row.path.stem,
        query_id=str(row.number),
        source="routellm",
    )
