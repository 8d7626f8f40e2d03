"""`rheostat collect`: sampled answers to a task set, graded, as a log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import CONFIG, STATE, ConfigFile, Json, Seed, State, load_config, resumable, show, with_backends

if TYPE_CHECKING:
    from rheostat.data.schema import Query
    from rheostat.data.verifiers import Verifier
    from rheostat.serving.config import Config
    from rheostat.training.asked import Graded
    from rheostat.training.collect import Collected
    from rheostat.training.samplers import Sampler
    from rheostat.training.sweep import Swept

SAMPLERS = ("cot:0.8:32", "direct:0.8:8")


def collect(
    tasks: Annotated[
        str, typer.Option(help="pocket, pocket:FAMILY,..., reasoning_gym:NAME, or a .jsonl of id, question, answer.")
    ] = "pocket",
    n: Annotated[int | None, typer.Option("--n", min=1, help="Number of queries; all of a file when left out.")] = None,
    backend: Annotated[list[str] | None, typer.Option("--backend", help="MODEL=URL; repeat. The config's backends when left out.")] = None,
    sampler: Annotated[
        list[str] | None, typer.Option("--sampler", help="PROMPT:TEMPERATURE:SAMPLES; repeat. Default: cot:0.8:32 and direct:0.8:8.")
    ] = None,
    action: Annotated[
        list[str] | None, typer.Option("--action", help="Also run this strategy whole on every query, as in mcts(sims=8)@900; repeat.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Store to write and to resume from; STATE/samples.db when left out.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Parquet log to write: the samples and runs asked for here, those stored before included, and no others."),
    ] = None,
    verifier: Annotated[
        str | None, typer.Option(help="Grades answers: exact, latex, python_tests, ...; what fits the task set when left out.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Samples in flight on each backend.")] = 128,
    config: ConfigFile = CONFIG,
    state: State = STATE,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Sample answers to a task set into a log.

    Logs how right and how dear each sample was. Stopped, it goes on where it was. A task whose question or answer changed is
    sampled anew.

    Example: rheostat collect --tasks pocket --n 400 --backend pocket=http://127.0.0.1:8100 --export log.parquet
    """
    from rheostat.commands.sweep import run_whole, whole_course
    from rheostat.data.tasks import load_tasks
    from rheostat.data.verifiers import verifier as verifier_named
    from rheostat.training.samplers import Sampler

    loaded = with_backends(load_config(config, state), backend)
    queries = load_tasks(tasks, n=n, seed=seed)
    grader = None if verifier is None else verifier_named(verifier, sandbox=loaded.sandbox.sandbox)
    samplers = [Sampler.parse(text, model) for model in loaded.models for text in sampler or SAMPLERS]
    path = store or state / "samples.db"
    # Before anything is spent: a misspelled action is told now, not after hours of sampling.
    course = whole_course(action, queries, loaded, verifier=grader, seed=seed) if action else None
    typer.echo(f"asking {', '.join(f'{each.model}={each.url}' for each in loaded.backend)}", err=True)
    collected = _draw_samples(queries, samplers, loaded, path, concurrency=concurrency, verifier=grader, seed=seed)
    whole = None if course is None else run_whole(course, loaded, state, path)
    exported = None if export is None else _export(path, export, queries, samplers, whole)
    _show_collected(collected, whole, exported, json)


def _draw_samples(
    queries: Sequence[Query],
    samplers: Sequence[Sampler],
    config: Config,
    path: Path,
    *,
    concurrency: int,
    verifier: Verifier | None,
    seed: int,
) -> Collected:
    """The samples of every backend's model into a store, with a bar."""
    import asyncio
    import os

    from rheostat.equipment import by_model
    from rheostat.training.bulk import BulkBackend
    from rheostat.training.collect import collect as draw

    backends = by_model(
        config, os.environ, lambda each, key: BulkBackend(each.url, each.url, model=each.served_model or each.model, api_key=key)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with resumable("collecting", "samples") as tell:
        drawing = draw(queries, samplers, backends, path, concurrency=concurrency, on_progress=tell, seed=seed, verifier=verifier)
        return asyncio.run(drawing)


def _export(store: Path, path: Path, queries: Sequence[Query], samplers: Sequence[Sampler], whole: Swept | None) -> str:
    """Write samples and whole runs as one log; says how many rows went where."""
    from rheostat.training.collect import export
    from rheostat.training.sweep_report import frame_of

    runs = frame_of(whole.rows) if whole is not None and whole.rows else None
    return f"{export(store, path, queries, samplers, runs=runs)} rows to {path}"


def _show_collected(collected: Collected, whole: Swept | None, exported: str | None, json: Path | None) -> None:
    """What came, as a table or JSON; failures are named, and make the status 1."""
    import msgspec

    from rheostat.training.collect import summary

    runs = {} if whole is None else {
        "runs": len(whole.rows), "there_before": whole.skipped, "failed": len(whole.failures), "generated_tokens": whole.ledger.generated,
    }  # fmt: skip
    rows = [["samples stored now", collected.stored], ["there before", collected.skipped], ["tokens generated", collected.ledger.generated]]
    rows += [["changed tasks, sampled anew", collected.changed]] if collected.changed else []
    rows += [[f"{model}: right", _right(graded)] for model, graded in collected.graded.items()]
    rows += [[f"actions: {name.replace('_', ' ')}", number] for name, number in runs.items()]
    rows += [["exported", exported]] if exported else []
    show("collected", ["what", "number"], rows, json=json, value={**msgspec.structs.asdict(collected), "actions": runs})
    if collected.failures:
        typer.echo(summary(collected), err=True)
    if whole is not None and whole.failures:
        typer.echo(f"{len(whole.failures)} runs failed; run again to retry. First: {whole.failures[0].error}", err=True)
    if collected.failures or (whole is not None and whole.failures):
        raise typer.Exit(1)


def _right(graded: Graded) -> str:
    """How many of the answers that could be graded were right."""
    share = f" ({graded.right / graded.graded:.1%})" if graded.graded else ""
    left = graded.samples - graded.graded
    return f"{graded.right:g} of {graded.graded}{share}" + (f", {left} could not be graded" if left else "")
