"""Logs that people already have: `rheostat import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rheostat.commands.common import Json, progress, show

MOST_ROWS = 20


def import_logs(
    sources: Annotated[list[Path], typer.Argument(help="Files, or folders with files below.")],
    out: Annotated[Path, typer.Option(help="Parquet log to write, for train, backtest, backtest-stopping and guarantee.")],
    format: Annotated[
        str | None, typer.Option(help="rows, lm-eval, inspect, pairs, wide or mlflow-traces; told from each file when left out.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Whose answers these are, where the file does not say.")] = None,
    strategy: Annotated[str, typer.Option(help="How the models were asked: direct, cot, or a name of your own.")] = "direct",
    score: Annotated[
        str | None,
        typer.Option(help="Which score is the reward: a column (rows), metric (lm-eval), scorer (inspect) or assessment (mlflow-traces)."),
    ] = None,
    filter: Annotated[str | None, typer.Option(help="Which filter of lm-eval, such as strict-match; the first when left out.")] = None,
    json: Json = None,
) -> None:
    """Turn tables of your own and logs of other tools into one log of samples. A row that does not fit is named, and nothing is written.

    Example: rheostat import results/ --format lm-eval --strategy cot --out log.parquet
    """
    from rheostat.data.importers.fields import Options
    from rheostat.data.importers.formats import read_files
    from rheostat.data.samples import samples_frame, write_samples

    options = Options(model=model, score=score, filter=filter, strategy=strategy)
    with progress("importing") as advance:
        samples, imported = read_files(sources, format=format, options=options, on_file=lambda path, share: advance(path.name, 0.9 * share))
        advance("write", 0.9)
        write_samples(out, samples_frame(samples))
    rows = [[file.path, file.format, file.samples, file.queries, ", ".join(file.models), file.ungraded] for file in imported]
    if len(rows) > MOST_ROWS:
        rows = [*rows[:MOST_ROWS], [f"and {len(rows) - MOST_ROWS} more files", "", "", "", "", ""]]
    estimated = sum(file.estimated_tokens for file in imported) / len(samples)
    title = f"{len(samples)} samples in {out}; tokens of {estimated:.0%} estimated from characters"
    show(title, ["file", "format", "samples", "queries", "models", "ungraded"], rows, json=json, value=imported)
