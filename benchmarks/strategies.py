"""Write what a sweep found into a page: which axis of compute pays where, and a small model against a large one.

    python benchmarks/strategies.py data/logs/sweep.parquet data/logs/sweep_smol.parquet --docs docs/strategies-results.md

The files are those that `rheostat sweep --export` writes; data/logs/README.md has the commands that made these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rheostat.training.results_page import write_section
from rheostat.training.sweep_page import section
from rheostat.training.sweep_report import read_rows


def main(
    sweeps: Annotated[list[Path], typer.Argument(help="Exports of one or more sweeps.")],
    docs: Annotated[Path, typer.Option(help="Page whose section is written.")] = Path("docs/strategies-results.md"),
    seed: Annotated[int, typer.Option(help="Of the resamples of queries.")] = 0,
) -> None:
    """Read the sweeps, and write the section."""
    rows = [row for path in sweeps for row in read_rows(path)]
    command = " ".join(["python benchmarks/strategies.py", *map(str, sweeps)])
    write_section(docs, section(rows, command, seed=seed))
    typer.echo(f"{docs}: {len(rows)} runs")


if __name__ == "__main__":
    typer.run(main)
