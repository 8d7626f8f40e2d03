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
