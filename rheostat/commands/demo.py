"""`rheostat demo`: the whole loop once, on real engines, a real MLflow and the official client."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rheostat.commands.common import Json, Seed, show


def demo(
    queries: Annotated[int, typer.Option(min=20, help="Held-out queries to answer live at each target.")] = 200,
    keep: Annotated[bool, typer.Option("--keep", envvar="KEEP", help="Leave engines, MLflow and the sidecar running.")] = False,
    state: Annotated[Path, typer.Option("--state", help="Folder for everything the demo makes.")] = Path(".rheostat/demo"),
    stop: Annotated[bool, typer.Option("--stop", help="End what an earlier --keep left running, and nothing else.")] = False,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Run the whole loop once and show it.

    Trains from the kept log, serves, answers held-out queries live, ships, retrains, and promotes or refuses.

    Example: rheostat demo --queries 200 --seed 1
    """
    from rheostat.demonstration import Demonstration, stop_kept

    if stop:
        for name in stop_kept(state):
            typer.echo(f"stopped {name}")
        return
    say = partial(typer.echo, err=str(json) == "-")
    result = Demonstration(state, n_queries=queries, seed=seed, say=say).run(keep=keep)
    columns = ["policy", "accuracy (95%)", "tokens/query", "requests/query", "seconds/query"]
    show(
        "held-out queries: fixed actions replayed from the kept log, the router live; requests are those to the engines, "
        "each for one or more samples, and a replay sends none",
        columns,
        [row.cells for row in result.rows],
        json=json,
        value=result,
    )
    for line in result.notes:
        say(line)
