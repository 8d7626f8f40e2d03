"""What can be shown from logs alone: `rheostat guarantee`, `backtest-stopping`, `ope`."""

from __future__ import annotations

from collections.abc import Sequence
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
    from rheostat.data.ledger import Price
    from rheostat.training.guarantee_check import Check
    from rheostat.training.guarantee_live import LiveGuarantee
    from rheostat.training.logged import Logged
    from rheostat.training.ope_log import LiveLog

Prices = Annotated[Path | None, typer.Option(help="JSON of USD per million generated tokens by model; one for all when left out.")]
OF_SPLITS = ("splits", "segment", "model", "strategy", "encoder", "seed")  # options that only splits of a log have

NAMED = 8  # segments too small for a promise, in a title


def guarantee(
    context: typer.Context,
    table: Annotated[
        Path, typer.Argument(help="Outcome log (Parquet) with every model x strategy on every query; with --policy, a live log.")
    ],
    target: Annotated[float, typer.Option(help="Accuracy to promise.")],
    delta: Annotated[float, typer.Option(help="Chance allowed of promising too much.")] = 0.1,
    splits: Annotated[int, typer.Option(min=4, help="Splits into calibration and test queries.")] = 200,
    segment: Annotated[
        str, typer.Option(help="Also promise for each dataset, kind (of answer) or level by itself; none for the whole only.")
    ] = "dataset",
    policy: Annotated[
        Path | None, typer.Option(help="Bundle to promise for, from a live log (store or segment) that is newer than the bundle.")
    ] = None,
    prices: Prices = None,
    model: Models = None,
    strategy: Strategies = None,
    encoder: Encoder = "static",
    state: State = STATE,
    mlflow: Mlflow = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Promise an accuracy on many splits of a log, and count how often the test queries break the promise.

    With --policy: what a live log allows to promise about that bundle, by importance weights. Promises are of one action a
    query: whether and how several are run on one is decided on the very queries that a promise would need untouched.

    Example: rheostat guarantee log.parquet --target 0.8 --delta 0.1 --splits 200
    """
    if policy is not None:
        _refuse(context, OF_SPLITS, "--policy promises from a live log, without splits")
        promised = _guarantee_live(table, policy, target, delta, prices=prices, json=json)
        track(context, mlflow, promised, table)
        return
    from rheostat.router.encoder import load_encoder
    from rheostat.training.guarantee_check import check_guarantee
    from rheostat.training.logged import check_priced

    logged, segments = _segmented(table, segment, models=names(model), strategies=names(strategy))
    priced = _prices(prices, table)
    if priced:
        check_priced(logged.table, priced)
    with progress("guarantee") as advance:
        weights = load_encoder(encoder, cache_folder=state / ENCODERS_FOLDER)
        check = check_guarantee(
            logged.table, weights, target=target, delta=delta, splits=splits, prices=priced, segments=segments, seed=seed,
            on_progress=advance,
        )  # fmt: skip
    _show_check(check, json)
    tell_gaps(logged.left_out, logged.ungraded, logged.queries_left_out)
    track(context, mlflow, check, table)


def _segmented(log: Path, by: str, *, models: Sequence[str], strategies: Sequence[str]) -> tuple[Logged, Sequence[str]]:
    """What is used of a log, and the segment of each of its queries."""
    from rheostat.data.errors import DatasetError
    from rheostat.data.samples import read_samples
    from rheostat.training.guarantee_check import SEGMENTS
    from rheostat.training.logged import arms, chosen

    if by not in SEGMENTS:
        raise DatasetError(f"no segments by {by!r}: known are {', '.join(SEGMENTS)}")
    logged = arms(chosen(read_samples(log), models=models, strategies=strategies))
    return logged, SEGMENTS[by](logged.table)


def _refuse(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuse options that were given and would change nothing."""
    given = [name for name in names if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"]
    if given:
        raise typer.BadParameter(f"{why}: leave out --{given[0]}")


def _show_check(check: Check, json: Path | None) -> None:
    named = [("everything", check), *check.segments.items()]
    rows = [
        [
            name,
            each.n_calibration,
            f"{each.miss_rate:.3f} ({each.miss_rate_allowed:.3f})",
            f"{each.plugin_miss_rate:.3f}",
            f"{_signed(each.excess)} ({each.excess_allowed:.4f})",
            "-" if each.cost_ratio_vs_plugin is None else f"{each.cost_ratio_vs_plugin:.3f}",
            f"{each.infeasible_rate:.3f}",
            f"{each.attainable:.3f}",
        ]
        for name, each in named
    ]
    title = f"accuracy {check.target:g} promised at {1 - check.delta:.0%}: {check.splits} splits; in brackets what is allowed"
    if check.too_small:
        few = [f"{name} ({n})" for name, n in check.too_small.items()]
        more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
        title += f"; too few queries to promise for {', '.join(few[:NAMED])}{more}"
    columns = ["segment", "calibrated on", "promises broken", "by plug-in", "above target", "cost / plug-in", "infeasible"]
    show(title, [*columns, "attainable"], rows, json=json, value=check)


def _guarantee_live(log: Path, policy: Path, target: float, delta: float, *, prices: Path | None, json: Path | None) -> LiveGuarantee:
    from rheostat.router.bundle import Bundle
    from rheostat.training.guarantee_live import certify_live
    from rheostat.training.ope_log import read_live

    with progress("guarantee") as advance:
        advance("read", 0.0)
        bundle = Bundle.load(policy)
        live = read_live([log], bundle)
        advance("promise", 0.4)
        found = certify_live(live, bundle, prices=_prices(prices, log), target=target, delta=delta)
    rows = [_promise_row(name, each) for name, each in [("all traffic", found), *found.tiers.items()]]
    title = f"accuracy {target:g} at {1 - delta:.0%}, rewards weighted by up to {1 / found.smallest_propensity:.3g}"
    show(title, ["traffic", "questions", "verdict", "accuracy", "at least", "multiplier (USD)"], rows, json=json, value=found)
    _tell_counts(live)
    return found


def _tell_counts(log: LiveLog) -> None:
    """How many rows of a live log were used, and how many were not and why."""
    typer.echo(f"live rows: {', '.join(f'{count} {fate}' for fate, count in log.counts.items())}", err=True)


def _promise_row(name: str, found: LiveGuarantee) -> list[object]:
    certificate = found.certificate
    verdict = "promised" if certificate.feasible else "infeasible; the most accurate policy"
    multiplier = "-" if found.multiplier_usd is None else f"{found.multiplier_usd:.3g}"
    return [name, found.rows, verdict, f"{certificate.accuracy:.4f}", f"{certificate.low:.4f}", multiplier]


def _prices(path: Path | None, table: Path) -> dict[str, Price]:
    from rheostat.training.logged import read_prices

    return read_prices(path, table.stem) if path else {}


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def backtest_stopping(
    context: typer.Context,
    table: Annotated[Path, typer.Argument(help="Multi-sample log (Parquet): several answers of one model to one question.")],
    k: Annotated[int, typer.Option("--k", min=2, help="The most samples a rule may draw; questions with fewer are left out.")] = 16,
    encoder: Encoder = "static",
    state: State = STATE,
    mlflow: Mlflow = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Compare stop rules on logged samples of held-out questions: accuracy at mean samples, published rules and learned ones.

    Example: rheostat backtest-stopping log.parquet --k 16
    """
    from rheostat.router.encoder import load_encoder
    from rheostat.training.backtest_stopping import backtest_stopping as run
    from rheostat.training.sampled_items import read_items

    with progress("backtest-stopping") as advance:
        items = read_items(table, k)
        weights = load_encoder(encoder, cache_folder=state / ENCODERS_FOLDER) if None not in items.texts else None
        report = run(items, k=k, encoder=weights, seed=seed, on_progress=advance)
    reference = report.reference
    rows = []
    for name, curve in report.rules.items():
        needed = curve.samples_at_reference
        best = max(curve.points, key=lambda point: point.accuracy)
        accuracy = f"{best.accuracy:.4f} ({best.low:.4f}-{best.high:.4f})"
        rows.append([name, "-" if needed is None else f"{needed:.2f}", accuracy, f"{best.samples:.2f}", best.setting])
    title = (
        f"{report.n_items} held-out items; {reference.rule} is right {reference.accuracy:.4f} of the time; priors from the {report.prior}"
    )
    show(title, ["rule", f"samples for {reference.rule}", "best accuracy (95%)", "its samples", "at"], rows, json=json, value=report)
    track(context, mlflow, report, table)


def ope(
    context: typer.Context,
    logs: Annotated[list[Path], typer.Argument(help="Stores (SQLite) and segments (Parquet) of live traffic.")],
    policy: Annotated[Path, typer.Option(help="Folder of the bundle to evaluate.")],
    target: Annotated[float, typer.Option(min=0, max=1, help="Accuracy the bundle is asked for.")] = 0.9,
    min_ess: Annotated[float, typer.Option(min=0, help="Effective sample size below which nothing is estimated.")] = 50.0,
    prices: Prices = None,
    mlflow: Mlflow = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Estimate from logged traffic what a bundle would have earned, with intervals, or say why the log cannot tell.

    Example: rheostat ope .rheostat/outcomes.db --policy .rheostat/training/NAME/bundle
    """
    from rheostat.router.bundle import Bundle
    from rheostat.training.ope import ESTIMATORS, evaluate_policy
    from rheostat.training.ope_log import logged_bandit, modelled_rewards, read_live

    with progress("ope") as advance:
        advance("read", 0.0)
        bundle = Bundle.load(policy)
        log = read_live(logs, bundle)
        advance("model the rewards", 0.3)
        bandit = logged_bandit(log, bundle, target=target, prices=_prices(prices, logs[0]))
        found = evaluate_policy(bandit, modelled_rewards(log.table, bundle.encoder, seed=seed), min_ess=min_ess, seed=seed)
    rows = [
        [f"{name} ({ESTIMATORS[name]})", f"{e.value:.4f}", f"{e.low:.4f}-{e.high:.4f}", _range(e.bernstein)]
        for name, e in found.estimates.items()
    ]
    seen = found.diagnostics
    title = f"{seen.n} rows, effective {seen.ess:.1f}, overlap {seen.overlap:.3f}, largest weight {seen.max_weight:.1f}"
    show(title, ["estimator", "value", "95% bootstrap", "95% Bernstein"], rows, json=json, value=found)
    _tell_counts(log)
    track(context, mlflow, found, *logs)
    if found.refused:
        typer.echo(f"refused: {found.refused}", err=True)
        raise typer.Exit(1)


def _range(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4f}-{interval[1]:.4f}"
