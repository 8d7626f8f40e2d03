"""`rheostat sweep`: any part of the catalogue over a task set, and what each axis of compute is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import CONFIG, STATE, ConfigFile, Json, Seed, State, ToolEncoder, load_config, resumable, show, with_backends

if TYPE_CHECKING:
    from rheostat.data.schema import Action, Query
    from rheostat.data.verifiers import Verifier
    from rheostat.serving.config import Config
    from rheostat.training.axes import Ladder
    from rheostat.training.bootstrap import Interval
    from rheostat.training.sweep import Course, OnProgress, Swept
    from rheostat.training.sweep_report import AxisReport, SweepReport

ALL = "all"
DEFAULT_TOKENS = 1024


def sweep(
    actions: Annotated[
        list[str] | None, typer.Argument(help="As in cot or pocket/mcts(sims=8)@900; on every model if it names none.")
    ] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option("--axis", help="reasoning, samples, width, depth, simulations, rounds, checks, examples, all; or samples=1,2,4."),
    ] = None,
    tasks: Annotated[str, typer.Option(help="pocket, pocket:FAMILY,..., reasoning_gym:NAME, or a .jsonl of tasks.")] = "pocket",
    n: Annotated[int | None, typer.Option("--n", min=1, help="Number of queries; all of a file when left out.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Run on this model only; repeat.")] = None,
    by: Annotated[str, typer.Option(help="What scores on the axes that need it; prm where there is one, else self.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Cap of actions that name none with @.")] = DEFAULT_TOKENS,
    verifier: Annotated[str | None, typer.Option(help="Grades answers; what fits the task set when left out.")] = None,
    memory: Annotated[Path | None, typer.Option(help="Task memory of few_shot; the state folder's when left out.")] = None,
    encoder: ToolEncoder = "static",
    store: Annotated[Path | None, typer.Option(help="Store to write and to resume from; STATE/sweep.db when left out.")] = None,
    export: Annotated[Path | None, typer.Option(help="Parquet file to write at the end, one row a run.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Runs in flight; seconds are measured under this load.")] = 16,
    backend: Annotated[list[str] | None, typer.Option("--backend", help="MODEL=URL; repeat. The config's backends when left out.")] = None,
    config: ConfigFile = CONFIG,
    state: State = STATE,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Run actions on a task set; show accuracy, tokens, seconds and calls of each, and what each axis is worth.

    Stopped, it goes on where it was.

    Example: rheostat sweep cot "best_of_n(n=4,by=self)" --axis samples --axis rounds --n 96 --export sweep.parquet
    """
    from rheostat.data.tasks import load_tasks
    from rheostat.data.verifiers import verifier as verifier_named
    from rheostat.equipment import equipped
    from rheostat.training.axes import distinct
    from rheostat.training.sweep import Course
    from rheostat.training.sweep_report import export as export_rows
    from rheostat.training.sweep_report import report

    servers = equipped(with_backends(load_config(config, state), backend), state)
    models = _models(servers, model)
    ladders = _ladders(axis or [], models, by or _scorer(servers))
    wanted = distinct(ladders, _spelled(actions or [], models, tokens))
    queries = load_tasks(tasks, n=n, seed=seed)
    grader = None if verifier is None else verifier_named(verifier, sandbox=servers.sandbox.sandbox)
    course = Course(tasks=queries, actions=_some(wanted), seed=seed, verifier=grader, prices=servers.prices)
    path = store or state / "sweep.db"
    swept = run_course(course, servers, state, path, concurrency=concurrency, memory=memory, encoder=encoder)
    found = report(swept.rows, ladders, seed=seed)
    if export is not None and swept.rows:
        export_rows(swept.rows, export)
    _show(found, swept, json)
    if swept.failures:
        typer.echo(f"{len(swept.failures)} runs failed; run again to retry. First: {swept.failures[0].error}", err=True)
        raise typer.Exit(1)


def whole_course(actions: Sequence[str], tasks: Sequence[Query], config: Config, *, verifier: Verifier | None, seed: int) -> Course:
    """Strategies to be run whole, on every model where they name none.

    Raises:
        ActionError: one of them is misspelled.
    """
    from rheostat.training.sweep import Course

    wanted = _spelled(actions, config.models, DEFAULT_TOKENS)
    return Course(tasks=tasks, actions=wanted, seed=seed, verifier=verifier, prices=config.prices)


def run_whole(course: Course, config: Config, state: Path, path: Path) -> Swept:
    """Run strategies whole into a store that has other records too."""
    from rheostat.equipment import equipped
    from rheostat.training.sweep import CONCURRENCY

    return run_course(course, equipped(config, state), state, path, concurrency=CONCURRENCY)


def run_course(
    course: Course, config: Config, state: Path, path: Path, *, concurrency: int, memory: Path | None = None, encoder: str = "static"
) -> Swept:
    """Run a course on the configured engines, with a bar; the toolbox is made of what its actions use.

    Raises:
        ActionError: an action asks for what is not here; nothing was run.
        typer.Exit: it was interrupted.
    """
    import asyncio

    from rheostat.equipment import equipped_for

    compares = any(query.kind == "text" for query in course.tasks)
    config = equipped_for(course.actions, config, state, compares=compares, memory=memory, encoder=encoder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with resumable("sweeping", "runs") as tell:
        return asyncio.run(_run(course, config, path, concurrency, tell))


async def _run(course: Course, config: Config, path: Path, concurrency: int, tell: OnProgress) -> Swept:
    import os
    from contextlib import AsyncExitStack

    from msgspec.structs import replace

    from rheostat.equipment import servers_of
    from rheostat.serving.tools import open_toolbox
    from rheostat.training.sweep import sweep as sweep_all

    async with AsyncExitStack() as stack:
        toolbox = open_toolbox(config, environ=os.environ, stack=stack)
        servers = servers_of(config, os.environ)
        return await sweep_all(replace(course, toolbox=toolbox), servers, path, concurrency=concurrency, on_progress=tell)


def _models(config: Config, wanted: list[str] | None) -> tuple[str, ...]:
    from rheostat.data.errors import ConfigError

    if unknown := [name for name in wanted or [] if name not in config.models]:
        raise ConfigError(f"--model {unknown[0]!r} has no backend: known are {', '.join(config.models)}")
    return tuple(wanted or config.models)


def _scorer(config: Config) -> str:
    """What scores where nothing is named: a process reward model, or else the model itself."""
    from rheostat.equipment import PRM
    from rheostat.policies.needs import SELF

    return PRM if PRM in {each.name for each in config.reward} else SELF


def _ladders(axes: Sequence[str], models: Sequence[str], by: str) -> list[Ladder]:
    from rheostat.training.axes import AXES, ladder

    names = AXES if ALL in axes else axes
    return [ladder(name, model, by=by) for name in names for model in models]


def _spelled(actions: Sequence[str], models: Sequence[str], tokens: int) -> list[Action]:
    """The actions, those without a model once for each model, the others once."""
    from rheostat.commands.ask import complete

    return list(dict.fromkeys(complete(spelling, (model,), tokens) for spelling in actions for model in models))


def _some(actions: list[Action]) -> list[Action]:
    from rheostat.data.errors import ConfigError

    if not actions:
        raise ConfigError("nothing to sweep: name actions, as in rheostat sweep cot, or axes, as in --axis samples")
    return actions


def _show(found: SweepReport, swept: Swept, json: Path | None) -> None:
    """Two tables, or one JSON value of both."""
    rows = [
        [each.action, each.n, _share(each.accuracy), _number(each.tokens), _number(each.seconds, 2), _number(each.calls, 1)]
        for each in found.actions
    ]
    value = {
        "actions": found.actions, "axes": found.axes, "failures": swept.failures, "skipped": swept.skipped,
        "ledger": swept.ledger, "elapsed_s": swept.elapsed_s,
    }  # fmt: skip
    show("a query, on average (95% interval)", ["action", "queries", "right", "tokens", "seconds", "calls"], rows, json=json, value=value)
    if str(json) != "-" and found.axes:
        columns = ["axis", "model", "queries", "right at each size", "largest against smallest", "verdict", "knee"]
        show("what more compute buys", columns, [_axis_row(each) for each in found.axes])


def _axis_row(each: AxisReport) -> list[object]:
    sizes = "  ".join(f"{point.size}: {point.accuracy.value:.3f}" for point in each.points)
    return [f"{each.axis} ({each.unit})", each.model, each.n, sizes, f"{each.growth.gain:+.3f}", each.growth.verdict, _knee(each)]


def _knee(each: AxisReport) -> str:
    knee, largest = each.growth.knee, each.points[-1].size
    if knee is None:
        return "-"
    return f"{knee.value:.1f} ({knee.low:.1f} to {knee.high:.1f})" if knee.value <= largest else f"beyond {largest}"


def _share(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})"


def _number(interval: Interval, digits: int = 0) -> str:
    return f"{interval.value:.{digits}f} ({interval.low:.{digits}f}-{interval.high:.{digits}f})"
