"""Wide tables as RouterBench publishes them: a row a prompt, and for each model its score, response and cost."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from rheostat.data.answers import infer_kind
from rheostat.data.errors import DatasetError
from rheostat.data.importers.fields import AS_WRITTEN, ESTIMATED, Options, Row, answer_in, csv_rows, tokens_of
from rheostat.data.parquet import read_parquet
from rheostat.data.schema import Sample

RESPONSE, COST = "|model_response", "|total_cost"


def read_wide_scores(path: Path, options: Options = AS_WRITTEN) -> Iterator[Sample]:
    """One sample a model and row, from CSV or Parquet with the columns sample_id, prompt, eval_name, MODEL, MODEL|total_cost
    and, where kept, MODEL|model_response.

    Raises:
        DatasetError: no column is a model's, or a row does not fit; names row, column and reason.
    """
    for row in _rows(path):
        models = [name.removesuffix(COST) for name in row.values if name.endswith(COST)]
        if not models:
            raise DatasetError(f"{path}: no column ends in {COST}: give MODEL and MODEL{COST} for every model")
        for model in models:
            yield _sample(row, model, options.strategy)


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".csv":
        yield from csv_rows(path)
        return
    for number, values in enumerate(read_parquet(path).iter_rows(named=True), start=1):
        yield Row(path, number, values)


def _sample(row: Row, model: str, strategy: str) -> Sample:
    prompt, response = _plain(row.get("prompt")), _plain(str(row.values.get(f"{model}{RESPONSE}") or ""))
    try:
        cost = float(row.get(f"{model}{COST}", object))
    except (TypeError, ValueError) as error:
        raise row.error(f"{model}{COST}", "is no number") from error
    return Sample(
        dataset=row.get("eval_name"),
        query_id=str(row.get("sample_id", (str, int))),
        query_text=prompt,
        model=model,
        strategy=strategy,
        sample_index=0,
        temperature=0.0,
        answer=answer_in(response, prompt),
        kind=infer_kind(prompt),
        gold="",
        correct=row.share(model),
        prompt_tokens=tokens_of(prompt),
        completion_tokens=max(tokens_of(response), 1),
        latency_s=0.0,
        tokens_source=ESTIMATED,
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
