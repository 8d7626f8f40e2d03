"""Wide tables as RouterBench publishes them: a row a prompt, and for each model its score, response and cost."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from rheostat.data.errors import DatasetError
from rheostat.data.importers.fields import AS_WRITTEN, Options, Row, sample_of_texts, table_rows
from rheostat.data.schema import Sample

RESPONSE, COST = "|model_response", "|total_cost"


def read_wide_scores(path: Path, options: Options = AS_WRITTEN) -> Iterator[Sample]:
    """One sample a model and row, from CSV or Parquet with the columns sample_id, prompt, eval_name, MODEL, MODEL|total_cost
    and, where kept, MODEL|model_response.

    Raises:
        DatasetError: no column is a model's, or a row does not fit; names row, column and reason.
    """
    for row in table_rows(path):
        models = [name.removesuffix(COST) for name in row.values if name.endswith(COST)]
        if not models:
            raise DatasetError(f"{path}: no column ends in {COST}: give MODEL and MODEL{COST} for every model")
        for model in models:
            yield _sample(row, model, options.strategy)


def _sample(row: Row, model: str, strategy: str) -> Sample:
    prompt, response = _plain(row.get("prompt")), _plain(str(row.values.get(f"{model}{RESPONSE}") or ""))
    try:
        cost = float(row.get(f"{model}{COST}", object))
    except (TypeError, ValueError) as error:
        raise row.error(f"{model}{COST}", "is no number") from error
    return sample_of_texts(
        row,
        prompt=prompt,
        response=response,
        model=model,
        strategy=strategy,
        dataset=row.get("eval_name"),
        query_id=str(row.get("sample_id", (str, int))),
        source="routerbench",
        cost_usd=cost,
    )


def _plain(text: str) -> str:
    """The published tables keep prompts and responses as the spelling of a list of turns."""
    if not text.startswith(("['", '["')):
        return text
    try:
        turns = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return "\n".join(map(str, turns)) if isinstance(turns, list) else text
