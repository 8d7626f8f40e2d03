"""Offline work: `rheostat collect`, `train`, `report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import (
    CONFIG,
    STATE,
    ConfigFile,
    Json,
    Seed,
    State,
    TrackingUri,
    load_config,
    progress,
    require_logs,
    resumable,
    show,
    tracking_uri,
    with_backends,
)

if TYPE_CHECKING:
    from rheostat.data.schema import Query
    from rheostat.data.verifiers import Verifier
    from rheostat.serving.config import Config
    from rheostat.training.collect import Collected
    from rheostat.training.evaluation import Evaluation, Point
    from rheostat.training.pipeline import Trained
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
    export: Annotated[Path | None, typer.Option(help="Parquet log to write: all samples, and each run of --action.")] = None,
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

    Logs how right and how dear each sample was. Stopped, it goes on where it was.

    Example: rheostat collect --tasks pocket --n 400 --backend pocket=http://127.0.0.1:8100 --export log.parquet
    """
    from rheostat.commands.sweep import run_whole, whole_course
    from rheostat.data.tasks import load_tasks
    from rheostat.data.verifiers import verifier as verifier_named

    loaded = with_backends(load_config(config, state), backend)
    queries = load_tasks(tasks, n=n, seed=seed)
    grader = None if verifier is None else verifier_named(verifier, sandbox=loaded.sandbox.sandbox)
    path = store or state / "samples.db"
    # Before anything is spent: a misspelled action is told now, not after hours of sampling.
    course = whole_course(action, queries, loaded, verifier=grader, seed=seed) if action else None
    collected = _draw_samples(queries, sampler, loaded, path, concurrency=concurrency, verifier=grader, seed=seed)
    whole = None if course is None else run_whole(course, loaded, state, path)
    exported = None if export is None else _export(path, export, whole)
    _show_collected(collected, whole, exported, json)


def _draw_samples(
    queries: Sequence[Query],
    spelled: Sequence[str] | None,
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
    from rheostat.training.samplers import Sampler

    backends = by_model(
        config, os.environ, lambda each, key: BulkBackend(each.url, each.url, model=each.served_model or each.model, api_key=key)
    )
    samplers = [Sampler.parse(text, model) for model in backends for text in spelled or SAMPLERS]
    path.parent.mkdir(parents=True, exist_ok=True)
    with resumable("collecting", "samples") as tell:
        drawing = draw(queries, samplers, backends, path, concurrency=concurrency, on_progress=tell, seed=seed, verifier=verifier)
        return asyncio.run(drawing)


def _export(store: Path, path: Path, whole: Swept | None) -> str:
    """Write samples and whole runs as one log; says how many rows went where."""
    from rheostat.training.collect import export
    from rheostat.training.sweep_report import frame_of

    rows = export(store, path, runs=frame_of(whole.rows) if whole is not None and whole.rows else None)
    return f"{rows} rows to {path}"


def _show_collected(collected: Collected, whole: Swept | None, exported: str | None, json: Path | None) -> None:
    """What came, as a table or JSON; failures are named, and make the status 1."""
    import msgspec

    from rheostat.training.collect import summary

    runs = {} if whole is None else {
        "runs": len(whole.rows), "there_before": whole.skipped, "failed": len(whole.failures), "generated_tokens": whole.ledger.generated,
    }  # fmt: skip
    rows = [["samples stored now", collected.stored], ["there before", collected.skipped], ["tokens generated", collected.ledger.generated]]
    rows += [[f"actions: {name.replace('_', ' ')}", number] for name, number in runs.items()]
    rows += [["exported", exported]] if exported else []
    show("collected", ["what", "number"], rows, json=json, value={**msgspec.structs.asdict(collected), "actions": runs})
    if collected.failures:
        typer.echo(summary(collected), err=True)
    if whole is not None and whole.failures:
        typer.echo(f"{len(whole.failures)} runs failed; run again to retry. First: {whole.failures[0].error}", err=True)
    if collected.failures or (whole is not None and whole.failures):
        raise typer.Exit(1)


def train(
    logs: Annotated[list[Path], typer.Argument(help="Sample logs and segments (Parquet), stores (SQLite).")],
    encoder: Annotated[str, typer.Option(help="static, minilm, minilm-int8, or a folder with a sentence-transformers model.")] = "static",
    live: Annotated[bool, typer.Option(help="Also train on the segments that sidecars shipped to MLflow.")] = True,
    confidence: Annotated[float, typer.Option(help="Of the promises in the report.")] = 0.9,
    config: ConfigFile = CONFIG,
    state: State = STATE,
    tracking: TrackingUri = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Fit a router on logs and register it.

    It is judged on held-out queries and logged to MLflow.

    Example: rheostat train log.parquet --encoder static
    """
    from rheostat.training.fetch import fetch_segments
    from rheostat.training.pipeline import train_router
    from rheostat.training.registry import Registry

    require_logs(logs)
    loaded = load_config(config, state)
    uri = tracking_uri(tracking, loaded, state)
    with progress("training") as advance:
        segments = fetch_segments(uri, state / "segments") if live else []
        trained = train_router(
            [*logs, *segments], state, prices=loaded.prices, encoder=encoder, registry=Registry(uri), seed=seed,
            confidence=confidence, on_progress=advance,
        )  # fmt: skip
    show_evaluation(trained.evaluation, json)
    typer.echo(_closing(trained), err=True)


def report(
    training: Annotated[Path | None, typer.Option(help="Folder of a training; the newest one when left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the page; beside the training when left out.")] = None,
    state: State = STATE,
    json: Json = None,
) -> None:
    """Write the budget-versus-accuracy page.

    Example: rheostat report --out frontier.html
    """
    from rheostat.training.pipeline import latest_training, read_evaluation
    from rheostat.training.registry import REPORT_FILE
    from rheostat.training.report import write_report

    folder = training or latest_training(state) or state / "training"
    evaluation = read_evaluation(folder)
    page = write_report(evaluation, out or folder / REPORT_FILE)
    show_evaluation(evaluation, json)
    typer.echo(f"report: {page}", err=True)


def show_evaluation(evaluation: Evaluation, json: Path | None = None) -> None:
    """The fixed actions, the router at every fifth percent of accuracy it reaches or promises, and the verdict, as a table."""
    from rheostat.training.evaluation import is_shown

    reached = [point for point in evaluation.targets if point.feasible and is_shown(point.target or 0)]
    named = [(point.name, point) for point in evaluation.fixed]
    named += [(f"router, target {point.target:.2f}", point) for point in reached]
    named += _promised(evaluation)
    named += [(f"router, as good as {evaluation.best_fixed}", evaluation.at_best_fixed.point)]
    rows = [[name, _interval(point), f"{point.tokens:.1f}", f"{point.cost_usd * 1e6:.1f}"] for name, point in named]
    title = f"{evaluation.verdict}: {evaluation.reason}"
    show(title, ["policy", "accuracy (95%)", "tokens/query", "cost/query (1e-6 USD)"], rows, json=json, value=evaluation)
    if evaluation.promises is not None:
        typer.echo(str(evaluation.promises), err=True)


def _promised(evaluation: Evaluation) -> list[tuple[str, Point]]:
    """What was promised on fresh queries, what it gave on the test queries, and what the confidence cost."""
    from rheostat.training.evaluation import is_shown

    promises = evaluation.promises
    if promises is None:
        return []
    held = [each for each in promises.points if each.holds and is_shown(each.target)]
    return [(f"router, {each.target:.2f} promised at {promises.confidence:.0%}, cost x{each.cost_ratio:.2f}", each.point) for each in held]


def _interval(point: Point) -> str:
    accuracy = point.accuracy
    return f"{accuracy.value:.3f} ({accuracy.low:.3f}-{accuracy.high:.3f})"


def _closing(trained: Trained) -> str:
    version = trained.version
    registered = f"registered as version {version.version}; rheostat promote makes it the champion" if version else "not registered"
    live = f"; live rows: {', '.join(f'{count} {fate}' for fate, count in trained.live.items())}" if trained.live else ""
    several = trained.evaluation.sequential
    told = f"several actions on a query: {several.reason}\n" if several else ""
    return f"{told}report: {trained.report}\nbundle: {trained.folder / 'bundle'} ({registered}{live})"
