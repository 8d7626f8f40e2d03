"""Offline work: `rheostat train`, `report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import (
    CONFIG,
    STATE,
    ConfigFile,
    Encoder,
    Json,
    Seed,
    State,
    TrackingUri,
    load_config,
    progress,
    require_logs,
    show,
    tell_gaps,
    tracking_uri,
)

if TYPE_CHECKING:
    from rheostat.data.ledger import Price
    from rheostat.training.evaluation import Evaluation, Point
    from rheostat.training.pipeline import Trained


def train(
    logs: Annotated[list[Path], typer.Argument(help="Sample logs and segments (Parquet), stores (SQLite).")],
    encoder: Encoder = "static",
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
    tell_gaps(trained.left_out, trained.ungraded)
    _tell_unpriced(trained.evaluation, loaded.prices, config)
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
    there = evaluation.at_best_fixed.point
    named = [(f"{point.name} (best fixed)" if point.name == evaluation.best_fixed else point.name, point) for point in evaluation.fixed]
    named += _joined(reached)
    named += _promised(evaluation)
    named += [("router, asked for what the best fixed action gave" + ("" if there.target is None else f", {there.target:.3f}"), there)]
    rows = [[name, _interval(point), f"{point.tokens:.1f}", f"{point.cost_usd * 1e6:.1f}"] for name, point in named]
    title = f"{evaluation.verdict}: {evaluation.reason}"
    show(title, ["policy", "accuracy (95%)", "tokens/query", "cost/query (1e-6 USD)"], rows, json=json, value=evaluation)
    if evaluation.promises is not None:
        typer.echo(str(evaluation.promises), err=True)


def _joined(reached: Sequence[Point]) -> list[tuple[str, Point]]:
    """A name and a point for every run of targets that the router meets in the same way."""
    named = []
    for _, alike in groupby(reached, key=lambda point: (point.multiplier_usd, point.mix, point.accuracy, point.cost_usd)):
        points = list(alike)
        first, last = (f"{point.target:.2f}" for point in (points[0], points[-1]))
        named.append((f"router, target {first}" if first == last else f"router, targets {first} to {last}", points[-1]))
    return named


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


def _tell_unpriced(evaluation: Evaluation, prices: Mapping[str, Price], config: Path) -> None:
    """Models that the configuration does not have, on standard error: what they cost was assumed."""
    from rheostat.data.schema import Action

    if unpriced := sorted({Action.parse(action).model for action in evaluation.actions} - set(prices)):
        typer.echo(f"no backend in {config} has {', '.join(unpriced)}: taken at 1 USD per million generated tokens", err=True)


def _closing(trained: Trained) -> str:
    version = trained.version
    registered = f"registered as version {version.version}; rheostat promote makes it the champion" if version else "not registered"
    live = f"; live rows: {', '.join(f'{count} {fate}' for fate, count in trained.live.items())}" if trained.live else ""
    several = trained.evaluation.sequential
    told = f"several actions on a query: {several.reason}\n" if several else ""
    return f"{told}report: {trained.report}\nbundle: {trained.folder / 'bundle'} ({registered}{live})"
