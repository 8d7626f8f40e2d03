"""What can be shown from logs alone: `rheostat guarantee`, `backtest-stopping`, `ope`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import STATE, Json, Seed, State, progress, show

if TYPE_CHECKING:
    from rheostat.data.ledger import Price

Encoder = Annotated[str, typer.Option(help="static, minilm, or a folder with a sentence-transformers model.")]
Prices = Annotated[Path | None, typer.Option(help="JSON of USD per million generated tokens by model; one for all when left out.")]
Some = Annotated[list[str] | None, typer.Option(help="Keep only these; repeat.")]


def guarantee(
    table: Annotated[Path, typer.Argument(help="Outcome log (Parquet) with every model x strategy on every query.")],
    target: Annotated[float, typer.Option(help="Accuracy to promise.")],
    delta: Annotated[float, typer.Option(help="Chance allowed of promising too much.")] = 0.1,
    splits: Annotated[int, typer.Option(min=4, help="Splits into calibration and test queries.")] = 200,
    prices: Prices = None,
    model: Some = None,
    strategy: Some = None,
    encoder: Encoder = "static",
    state: State = STATE,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Promise an accuracy on many splits of a log, and count how often the test queries break the promise.

    Example: rheostat guarantee log.parquet --target 0.8 --delta 0.1 --splits 200
    """
    from rheostat.data.samples import read_samples
    from rheostat.router.encoder import load_encoder
    from rheostat.training.guarantee_check import check_guarantee
    from rheostat.training.wide import wide_table

    with progress("guarantee") as advance:
        advance("read", 0.0)
        wide = wide_table(read_samples(table), models=model or (), strategies=strategy or ())
        weights = load_encoder(encoder, cache_folder=state / "encoders")
        check = check_guarantee(
            wide, weights, target=target, delta=delta, splits=splits, prices=_prices(prices, table), seed=seed, on_progress=advance
        )
    rows = [
        ["promises broken", f"{check.miss_rate:.3f}", f"at most {check.miss_rate_allowed:.3f}"],
        ["of the plug-in threshold", f"{check.plugin_miss_rate:.3f}", ""],
        ["mean accuracy above the target", _signed(check.excess), f"at most {check.excess_allowed:.4f}"],
        ["cost over the plug-in's", "-" if check.cost_ratio_vs_plugin is None else f"{check.cost_ratio_vs_plugin:.3f}", ""],
        ["infeasible splits", f"{check.infeasible_rate:.3f}", f"attainable {check.attainable:.3f}"],
    ]
    title = f"accuracy {target:g} promised at {1 - delta:.0%}: {check.splits} splits, {check.n_calibration} calibration queries each"
    show(title, ["what", "measured", "reference"], rows, json=json, value=check)


def _prices(path: Path | None, table: Path) -> dict[str, Price]:
    from rheostat.training.wide import read_prices

    return read_prices(path, table.stem) if path else {}


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def backtest_stopping(
    table: Annotated[Path, typer.Argument(help="Multi-sample log (Parquet): several answers of one model to one question.")],
    k: Annotated[int, typer.Option("--k", min=2, help="The most samples a rule may draw; questions with fewer are left out.")] = 16,
    encoder: Encoder = "static",
    state: State = STATE,
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
        weights = load_encoder(encoder, cache_folder=state / "encoders") if None not in items.texts else None
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


def ope(
    logs: Annotated[list[Path], typer.Argument(help="Stores (SQLite) and segments (Parquet) of live traffic.")],
    policy: Annotated[Path, typer.Option(help="Folder of the bundle to evaluate.")],
    target: Annotated[float, typer.Option(help="Accuracy the bundle is asked for.")] = 0.9,
    min_ess: Annotated[float, typer.Option(help="Effective sample size below which nothing is estimated.")] = 50.0,
    prices: Prices = None,
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
    if found.refused:
        typer.echo(f"refused: {found.refused}", err=True)
        raise typer.Exit(1)


def _range(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4f}-{interval[1]:.4f}"
