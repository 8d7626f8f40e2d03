"""Do routers trained as `rheostat train` trains them keep their promises on a log of your own?

Fits a few routers, and shares out the queries that had no part in each at random: some promise, the others hold it
against. The result is printed as JSON, one object a target.

    python benchmarks/promises.py LOG.parquet --target 0.7 --target 0.8 --splits 200
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

LOG = Annotated[Path, typer.Argument(help="Outcome log (Parquet) with every model x strategy on every query.")]
Some = Annotated[list[str] | None, typer.Option(help="Keep only these; repeat.")]


def main(
    log: LOG,
    target: Annotated[list[float], typer.Option(help="Accuracy to promise; repeat.")],
    confidence: float = 0.9,
    splits: int = 200,
    fits: int = 2,
    prices: Annotated[Path | None, typer.Option(help="JSON of USD per million generated tokens by model.")] = None,
    model: Some = None,
    strategy: Some = None,
    cache: Annotated[Path, typer.Option(help="Where the static encoder is kept.")] = Path(".rheostat/encoders"),
) -> None:
    """Fit, promise, and print how often and by how much promises were broken."""
    from rheostat.commands.common import progress
    from rheostat.router.encoder import load_encoder
    from rheostat.training.fit import fit
    from rheostat.training.guarantee_check import Promise, check_pools
    from rheostat.training.logged import read_logged, read_prices
    from rheostat.training.promise_check import untouched_pool

    logged = read_logged(log, models=model or (), strategies=strategy or ())
    priced = read_prices(prices, log.stem) if prices else {}
    encoder, pools = load_encoder("static", cache_folder=cache), []
    for seed in range(fits):
        with progress(f"router {seed + 1} of {fits}") as advance:
            fitted = fit(logged.table, encoder=encoder, encoder_name="static", prices=priced, seed=seed, on_progress=advance)
        pools.append(untouched_pool(fitted, priced, seed=seed))
    for each in target:
        check = check_pools(pools, Promise(each, 1 - confidence, splits, seed=0), n=len(logged.table))
        typer.echo(msgspec.json.encode(check).decode())


if __name__ == "__main__":
    typer.run(main)
