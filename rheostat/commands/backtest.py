"""Judging on logs alone: `rheostat backtest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import (
    STATE,
    Encoder,
    Json,
    Mlflow,
    Models,
    Seed,
    State,
    Strategies,
    names,
    progress,
    show,
    tell_gaps,
    track,
)
from rheostat.equipment import ENCODERS_FOLDER

if TYPE_CHECKING:
    from rheostat.training.backtest import BacktestReport


def backtest(
    context: typer.Context,
    table: Annotated[Path, typer.Argument(help="Parquet log of outcomes: one row an answer.")],
    prices: Annotated[
        Path | None, typer.Option(help="JSON of USD per million tokens by model, or by table and model; tokens are counted without.")
    ] = None,
    strategy: Strategies = None,
    model: Models = None,
    encoder: Encoder = "static",
    state: State = STATE,
    mlflow: Mlflow = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """What a router would have spent and reached on logged queries, next to honest baselines. Fits on 70%, judges on 30%.

    Example: rheostat backtest outcomes.parquet --prices prices.json --json backtest.json
    """
    from rheostat.router.encoder import load_encoder
    from rheostat.training.backtest import backtest as run
    from rheostat.training.lexicon import TextRows
    from rheostat.training.logged import check_priced, read_logged, read_prices

    with progress("backtesting") as advance:
        advance("read", 0.0)
        logged = read_logged(table, models=names(model), strategies=names(strategy), seed=seed)
        priced = None if prices is None else read_prices(prices, table.stem)
        if priced is not None:
            check_priced(logged.table, priced)
        weights = load_encoder(encoder, cache_folder=state / ENCODERS_FOLDER)
        texts = TextRows.of(weights, logged.table.texts, state / "embeddings", on_progress=lambda share: advance("embed", 0.2 * share))
        report = run(logged, texts, prices=priced, seed=seed, on_progress=lambda step, share: advance(step, 0.2 + 0.8 * share))
    _show(report, json)
    tell_gaps(logged.left_out, logged.ungraded, logged.queries_left_out)
    track(context, mlflow, report, table)


def _show(report: BacktestReport, json: Path | None) -> None:
    best = report.best_fixed
    rows = [["best fixed: " + best.action, f"{best.cost:.4g}", "1.0", f"{best.accuracy:.4f}", "", ""]]
    for name, policy in report.policies.items():
        cost = policy.cost_at_best_fixed_accuracy
        low, high = policy.cost_ratio_interval
        ratio = "not reached" if cost is None else f"{policy.cost_ratio:.1f} ({low:.1f}-{high:.1f})"
        top = max(point.accuracy for point in policy.points)
        rows.append(
            [name, "-" if cost is None else f"{cost:.4g}", ratio, f"{top:.4f}", f"{policy.aiq:.4f}", f"{policy.oracle_gap_closed:.1%}"]
        )
    title = (
        f"{report.verdict}: utility over the best fixed action {report.utility_gain:+.4f}, "
        f"{report.split.n_test} test queries; best fixed is chosen on the {report.split.n_train} others; cost in {report.unit}"
    )
    if report.prices:
        title += "; prices " + ", ".join(f"{model} {usd:g}" for model, usd in report.prices.items())
    columns = ["policy", "cost at its accuracy", "cost ratio (95%)", "best accuracy", "AIQ", "oracle gap closed"]
    show(title, columns, rows, json=json, value=report)
    if report.verdict == "do not route" and report.policies["rheostat"].cost_ratio > 1:
        typer.echo(_why_not(report), err=True)


def _why_not(report: BacktestReport) -> str:
    """Why a router that is cheaper at one accuracy is still not advised."""
    gains = [(report.utility_gain, "fixed actions"), (report.gain_over_shuffled, "a router fitted on shuffled rewards")]
    gain, rival = min(gains, key=lambda each: each[0].low)
    return (
        f"Why not, with a cost ratio of {report.policies['rheostat'].cost_ratio:.1f}: the ratio is against the most accurate fixed action "
        "alone, at its accuracy, where a cheaper fixed action may save as much. The verdict is on utility, accuracy less priced cost, at "
        f"prices from low to high, each against the fixed action that is best at it: the gain over {rival} is {gain.value:+.4f} "
        f"(95% interval {gain.low:+.4f} to {gain.high:+.4f}), not shown to be above zero."
    )
