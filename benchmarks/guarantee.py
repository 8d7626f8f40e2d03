"""Does a promised accuracy hold on real logs? Many splits of each table and target, as JSON and as a table in Markdown.

    python benchmarks/guarantee.py TABLES --prices prices.json --targets faithful_cot=.70,.78,.82 --json docs/results-guarantee.json

Each table (`NAME.parquet` in the folder TABLES, as `rheostat guarantee` reads it) is fitted once for all its targets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.data.samples import read_samples
from rheostat.router.encoder import load_encoder
from rheostat.training.guarantee_check import SEGMENTS, Check, Promise, check_pools, fit_pools
from rheostat.training.logged import arms, read_prices

HEADER = (
    "| table | target | promises broken (at most) | by the plug-in | accuracy above target (at most) | cost over plug-in | infeasible "
    "| attainable | segments promised |\n|---|---|---|---|---|---|---|---|---|"
)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One table at one target: the check of the whole, and of how many of its data sets as much can be promised."""

    table: str
    whole: Check
    segments_promised: int
    segments: int

    @classmethod
    def of(cls, table: str, check: Check) -> Result:
        """The check without those of its segments."""
        return cls(
            table=table,
            whole=msgspec.structs.replace(check, segments={}, too_small={}),
            segments_promised=sum(segment.certificate.feasible for segment in check.segments.values()),
            segments=len(check.segments) + len(check.too_small),
        )


def main(
    tables: Annotated[Path, typer.Argument(help="Folder of outcome tables.")],
    targets: Annotated[list[str], typer.Option(help="TABLE=TARGET,TARGET; repeat.")],
    prices: Annotated[Path | None, typer.Option(help="JSON of prices by table and model.")] = None,
    delta: float = 0.1,
    splits: int = 200,
    state: Annotated[Path, typer.Option(help="Where the encoder is kept.")] = Path(".rheostat"),
    seed: int = 0,
    json: Annotated[Path | None, typer.Option(help="Where to write all checks.")] = None,
) -> None:
    """Check the guarantee on every table and target, and print the table for the results page."""
    results: list[Result] = []
    print(HEADER)
    for spec in targets:
        name, _, levels = spec.partition("=")
        table = arms(read_samples(tables / f"{name}.parquet")).table
        pools = fit_pools(table, load_encoder("static", cache_folder=state / "encoders"), prices=_prices(prices, name), seed=seed)
        segments = SEGMENTS["dataset"](table)
        for level in levels.split(","):
            check = check_pools(pools, Promise(float(level), delta, splits, seed), n=len(table), segments=segments)
            results.append(Result.of(name, check))
            print(_line(results[-1]), flush=True)
        if json is not None:
            json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def _prices(path: Path | None, table: str) -> dict[str, Price]:
    """The table's prices; without, every model's token costs the same."""
    if path is None:
        return {}
    try:
        return read_prices(path, table)
    except DatasetError as error:
        print(f"<!-- {table}: tokens are counted, {error} -->")
        return {}


def _line(result: Result) -> str:
    check = result.whole
    ratio = "-" if check.cost_ratio_vs_plugin is None else f"{check.cost_ratio_vs_plugin:.2f}"
    excess = "-" if check.excess is None else f"{check.excess:+.4f}"
    return (
        f"| {result.table} | {check.target:g} | {check.miss_rate:.3f} ({check.miss_rate_allowed:.3f}) | {check.plugin_miss_rate:.3f} "
        f"| {excess} ({check.excess_allowed:.4f}) | {ratio} | {check.infeasible_rate:.3f} | {check.attainable:.3f} "
        f"| {result.segments_promised} of {result.segments} |"
    )


if __name__ == "__main__":
    typer.run(main)
