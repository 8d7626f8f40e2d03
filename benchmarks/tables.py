"""Backtest every outcome log of some folders next to the rivals, and write what came out into docs/results.md.

python benchmarks/tables.py LOGS data/logs --prices prices.json --settings benchmarks/tables.json --out .rheostat/tables

Every log gets a backtest a seed, one with shuffled rewards, promises at three targets and, where it has enough samples of
a question, a comparison of stop rules. Each result is kept as JSON in --out and not run again until it is removed, so the
command can be stopped and continued. Settings have a name each and say which part of which table is run; a table without
settings is run whole.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from rheostat.commands.common import progress
from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.router.base import Encoder
from rheostat.router.encoder import load_encoder
from rheostat.training import baselines
from rheostat.training.backtest import QUERIES_PER_PRICE, BacktestReport, backtest
from rheostat.training.backtest_stopping import StopReport, backtest_stopping
from rheostat.training.baselines import Costed
from rheostat.training.guarantee_check import Check, Pool, Promise, check_pools, fit_pools
from rheostat.training.lexicon import TextRows
from rheostat.training.logged import Logged, check_priced, read_logged, read_prices
from rheostat.training.results_page import TableResult, section, write_section
from rheostat.training.sampled_items import Items, read_items

SAMPLES = 16
DELTA, SPLITS = 0.1, 200  # of the promises
BELOW_BEST = (0.1, 0.05, 0.02)  # targets when none are set: so far below the best fixed action

T = TypeVar("T")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a table is read and judged; what is not set is taken from the table.

    Attributes:
        table: file name without the ending; the settings' own name when empty.
        models, strategies, datasets: the ones to keep, all when empty.
        encoder: of the backtest.
        seeds: one backtest each.
        costs: mean costs a query at which accuracies are compared.
        targets: accuracies to promise.
        about: what sets the table apart from the others, for the page.
    """

    table: str = ""
    models: list[str] = []
    strategies: list[str] = []
    datasets: list[str] = []
    encoder: str = "static"
    seeds: tuple[int, ...] = (0,)
    costs: list[float] = []
    targets: list[float] = []
    about: str = ""


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """A backtest and its processor seconds."""

    report: BacktestReport
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Bench:
    """One table under one name, where its prices are, and where its results are kept."""

    name: str
    path: Path
    settings: Settings
    prices_file: Path | None
    out: Path

    def result(self) -> TableResult:
        """Everything this table allows; what it does not is noted."""
        notes: list[str] = []
        found = _or_note(self._judged, notes) or TableResult(name=self.name, encoder=self.settings.encoder, costs=[])
        stopping = {} if self.settings.datasets else _or_note(self._stopping, notes) or {}
        here = f"{self.path.parent}/"  # folders differ from machine to machine
        return msgspec.structs.replace(
            found, stopping=stopping, notes=[note.replace(here, "") for note in notes], about=self.settings.about
        )

    def _judged(self) -> TableResult:
        chosen = self.settings
        logged = read_logged(self.path, models=chosen.models, strategies=chosen.strategies, datasets=chosen.datasets)
        prices = self._prices(logged)
        timed = [self._kept(f"seed-{seed}", Timed, partial(self._timed, logged, prices, seed)) for seed in chosen.seeds]
        best = timed[0].report.best_fixed.accuracy
        targets = chosen.targets or [round(best - below, 2) for below in BELOW_BEST]
        return TableResult(
            name=self.name,
            encoder=chosen.encoder,
            costs=chosen.costs or _costs(logged, prices),
            backtests=[each.report for each in timed],
            cpu_s=[each.cpu_s for each in timed],
            on_shuffled=self._kept("shuffled", Timed, partial(self._timed, _shuffled(logged), prices, 0)).report.verdict,
            promises=self._promises(logged, prices, targets),
        )

    def _timed(self, logged: Logged, prices: dict[str, Price] | None, seed: int) -> Timed:
        texts = TextRows.of(self._encoder(self.settings.encoder), logged.table.texts, self.out / "embeddings")
        with progress(f"{self.name}, split {seed}") as advance:
            start = time.process_time()
            report = backtest(logged, texts, prices=prices, seed=seed, on_progress=advance)
            return Timed(report=report, cpu_s=time.process_time() - start)

    def _promises(self, logged: Logged, prices: dict[str, Price] | None, targets: Sequence[float]) -> list[Check]:
        @cache
        def pools() -> list[Pool]:
            """The same for every target, and not wanted where all promises are kept already."""
            with progress(f"{self.name}, promises") as advance:
                return fit_pools(logged.table, self._encoder("static"), prices=prices or {}, on_progress=advance)

        def check(target: float) -> Check:
            return check_pools(pools(), Promise(target, DELTA, SPLITS, seed=0), n=len(logged.table))

        return [self._kept(f"promise-{target:g}", Check, partial(check, target)) for target in targets]

    def _stopping(self) -> dict[str, StopReport]:
        """As logged, and as other engines' logs are: without log-probabilities."""
        items = read_items(self.path, SAMPLES)
        found = {"": self._stopped("stopping", items)}
        if np.isfinite(items.logprobs).any():
            bare = replace(items, logprobs=np.full_like(items.logprobs, np.nan))
            found["without log-probabilities"] = self._stopped("stopping-bare", bare)
        return found

    def _stopped(self, what: str, items: Items) -> StopReport:
        encoder = None if None in items.texts else self._encoder("static")
        with progress(f"{self.name}, stop rules") as advance:
            return self._kept(what, StopReport, lambda: backtest_stopping(items, k=SAMPLES, encoder=encoder, on_progress=advance))

    def _encoder(self, name: str) -> Encoder:
        return load_encoder(name, cache_folder=self.out / "encoders")

    def _prices(self, logged: Logged) -> dict[str, Price] | None:
        """The models' prices, or None, which counts tokens, where the file has not got all of them."""
        try:
            prices = read_prices(self.prices_file, self.path.stem) if self.prices_file else {}
            check_priced(logged.table, prices)
        except DatasetError:
            return None
        return prices

    def _kept(self, what: str, kind: type[T], run: Callable[[], T]) -> T:
        file = self.out / f"{self.name}-{what}.json"
        if not file.exists():
            result = run()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
        return msgspec.json.decode(file.read_bytes(), type=kind)


def _or_note(run: Callable[[], T], notes: list[str]) -> T | None:
    try:
        return run()
    except DatasetError as error:
        notes.append(str(error))
        return None


def _shuffled(logged: Logged) -> Logged:
    """The table with its rewards dealt out anew among the queries: nothing is left to learn from their texts."""
    order = np.random.default_rng(0).permutation(len(logged.table))
    return Logged(replace(logged.table, reward=logged.table.reward[order]), None, logged.left_out)


def _costs(logged: Logged, prices: dict[str, Price] | None) -> list[float]:
    """Twice what the cheapest action costs, what the best fixed one does, and their geometric mean."""
    table = logged.table
    cost = table.tokens if prices is None else table.cost_usd(prices) * QUERIES_PER_PRICE
    mean = cost.mean(axis=0)
    low, high = 2 * float(mean.min()), float(mean[baselines.best_fixed(Costed(table.reward, table.tokens, cost))])
    return sorted({float(f"{cost:.2g}") for cost in (low, (low * high) ** 0.5, high)})


def benches(options: argparse.Namespace) -> list[Bench]:
    """What is to be run: every table, under each of its settings."""
    stated = {} if options.settings is None else msgspec.json.decode(options.settings.read_bytes(), type=dict[str, Settings])
    found = []
    for path in sorted(path for folder in options.logs for path in folder.glob("*.parquet")):
        own = {name: each for name, each in stated.items() if (each.table or name) == path.stem} or {path.stem: Settings()}
        found += [Bench(name, path, each, options.prices, options.out) for name, each in own.items()]
    return [bench for bench in found if not options.only or bench.name in options.only]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="+", help="folders of Parquet logs of outcomes")
    parser.add_argument("--prices", type=Path, help="JSON of USD per million generated tokens, by table and model")
    parser.add_argument("--settings", type=Path, help="JSON of settings by name")
    parser.add_argument("--only", nargs="*", default=[], help="names to run; all when left out")
    parser.add_argument("--out", type=Path, default=Path(".rheostat/tables"), help="folder for results and embeddings")
    parser.add_argument("--docs", type=Path, default=Path("docs/results.md"), help="page whose section is written")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is chosen and write the section of the page."""
    options = parsed(arguments)
    chosen = benches(options)
    if not chosen:
        where = ", ".join(map(str, options.logs))
        sys.exit(f"no Parquet logs{' of that name' if options.only else ''} in {where}: name the folder that has them")
    results = [bench.result() for bench in chosen]
    write_section(options.docs, section(results, _spelled(options)))


def _spelled(options: argparse.Namespace) -> str:
    """The command without what differs from machine to machine."""
    files = {name: getattr(options, name) for name in ("prices", "settings")}
    named = [f"--{name} {file.name if file.is_absolute() else file}" for name, file in files.items() if file is not None]
    folders = ["LOGS" if folder.is_absolute() else str(folder) for folder in options.logs]
    only = ["--only", *options.only] if options.only else []
    return " ".join(["python benchmarks/tables.py", *folders, *named, *only])


if __name__ == "__main__":
    main()
