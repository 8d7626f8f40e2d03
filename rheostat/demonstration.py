"""The demo as one story: start, train, promote, serve, ask, ship, retrain, compare. Real servers throughout."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rheostat.data.errors import RheostatError
from rheostat.data.ledger import Price
from rheostat.data.logs import kept_log
from rheostat.data.schema import Query
from rheostat.live import Reply, ask_all
from rheostat.policies.engine import Engines, EngineState
from rheostat.policies.processes import Kept, Process, free_port, spawn, tail
from rheostat.policies.scrape import sum_metrics
from rheostat.training.pipeline import Trained, train_router
from rheostat.training.promote import Verdict, promote
from rheostat.training.registry import Registry
from rheostat.training.tracking_server import TrackingServer

if TYPE_CHECKING:
    from rheostat.training.bootstrap import Interval
    from rheostat.training.evaluation import Evaluation, Point

SHARES = (0.7, 0.85, 0.95)  # of the best fixed action's accuracy: the three targets asked for
MODELS = {"pocket": 1.0, "pocket-large": 5.0}  # USD per million generated tokens, in the ratio of their parameters
BACKEND = """\
[[backend]]
name = "{model}"
url = "{url}"
model = "{model}"
usd_per_1m_output = {usd}
context_tokens = 512

"""
SIDECAR = """\
[store]
path = "{state}/outcomes.db"
store_prompts = "full"

[mlflow]
tracking_uri = "{tracking_uri}"
poll_s = 1.0

[router]
cache = "{state}/bundles"
fallback = "{best_fixed}"
sequential = false  # one action a query: every live outcome then teaches the next training what that action gives

[server]
port = {port}
"""
READY_TIMEOUT_S = 120.0
SWAP_TIMEOUT_S = 60.0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table.

    Attributes:
        calls: requests the sidecar sent to the engines for a query; one may ask for several samples. None of fixed actions,
            which are replayed from the log and send none.
        seconds: of fixed actions those of the log, where many samples ran at once.
    """

    policy: str
    n: int
    accuracy: float
    low: float
    high: float
    tokens: float
    calls: float | None
    seconds: float

    @property
    def cells(self) -> list[str]:
        """The line as text."""
        interval = f"{self.accuracy:.3f} ({self.low:.3f}-{self.high:.3f})"
        return [self.policy, interval, f"{self.tokens:.1f}", "-" if self.calls is None else f"{self.calls:.1f}", f"{self.seconds:.2f}"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo measured, and what it has to say."""

    rows: list[Row]
    notes: list[str]
    verdicts: list[Verdict]
    ledger_tokens: int
    engine_tokens: int
    seconds: float


class Demonstration:
    """Runs the story in a state folder; `say` gets a line for every step."""

    def __init__(self, state: Path, *, n_queries: int, seed: int, say: Callable[[str], None]) -> None:
        self.state = state.resolve()
        self.n_queries = n_queries
        self.seed = seed
        self.say = say
        self.prices = {model: Price(usd_per_1m_output=usd) for model, usd in MODELS.items()}

    def run(self, *, keep: bool) -> Result:
        """All of it; ends what it started unless `keep`.

        Raises:
            RheostatError: a server does not start, or the kept log does not fit.
        """
        began = time.monotonic()
        log = kept_log("pocket")
        with contextlib.ExitStack() as running:
            engines = self._launch_engines(running, keep)
            tracking = TrackingServer(self.state / "mlflow").start()
            self._end_or_keep(running, keep, "mlflow", Process.of(tracking.pid))
            registry = Registry(tracking.uri)
            trained, verdict = self._train([log], registry, "training on the kept log")
            for engine in engines.values():
                self.say(f"waiting for engine {engine.name}")
                Engines(self.state / "engines").wait(engine)
            config = self._config(engines, tracking.uri, trained.evaluation.best_fixed)
            url = self._start_sidecar(running, config, keep)
            before = generated_tokens(e.url for e in engines.values())
            tasks = held_out_tasks(trained.folder / "test_table.npz", log, self.n_queries, self.seed)
            replies = {target: self._ask(url, tasks, target) for target in targets(trained.evaluation)}
            fresh = self._traffic(url, log, min(replies))
            asked = [reply for found in (*replies.values(), fresh) for reply in found]
            spent = generated_tokens(e.url for e in engines.values()) - before
            _wait_written(url)
            again, second = self._retrain(log, registry, config, tracking.uri)
            swapped = self._swap_note(url, second, again.folder.name)
            notes = [*_notes(trained, verdict, again, second), swapped, _conservation(asked, spent)]
            notes += _running(url, tracking.uri, engines) if keep else [_stopped(self.state)]
        return Result(
            rows=[*_fixed_rows(trained), *(_live_row(target, found) for target, found in replies.items())],
            notes=notes,
            verdicts=[verdict, second],
            ledger_tokens=sum(reply.tokens for reply in asked),
            engine_tokens=spent,
            seconds=time.monotonic() - began,
        )

    def _launch_engines(self, running: contextlib.ExitStack, keep: bool) -> dict[str, EngineState]:
        engines = Engines(self.state / "engines")
        found = {}
        for model in MODELS:
            self.say(f"starting engine {model}")
            found[model] = engines.launch(model)
            if not keep:
                running.callback(engines.stop, model)
        return found

    def _train(self, paths: Sequence[Path], registry: Registry, what: str) -> tuple[Trained, Verdict]:
        self.say(what)
        trained = train_router(paths, self.state, prices=self.prices, registry=registry, seed=self.seed)
        verdict = promote(registry, prices=self.prices, seed=self.seed)
        self.say(verdict.reason)
        return trained, verdict

    def _config(self, engines: dict[str, EngineState], tracking_uri: str, best_fixed: str) -> Path:
        backends = [
            BACKEND.format(model=model, url=engine.url, usd=MODELS[model]) for model, engine in engines.items()
        ]  # fmt: skip
        text = SIDECAR.format(state=self.state, tracking_uri=tracking_uri, best_fixed=best_fixed, port=free_port(8200, 8299))
        path = self.state / "rheostat.toml"
        path.write_text("".join([*backends, text]), encoding="utf-8")
        return path

    def _start_sidecar(self, running: contextlib.ExitStack, config: Path, keep: bool) -> str:
        self.say("starting the sidecar")
        command = [sys.executable, "-m", "rheostat", "serve", "--config", str(config), "--no-ship"]
        process = spawn(command, self.state / "sidecar.log")
        self._end_or_keep(running, keep, "sidecar", process)
        url = f"http://127.0.0.1:{_port(config)}"
        wait_ready(url, process, self.state / "sidecar.log")
        return url

    def _end_or_keep(self, running: contextlib.ExitStack, keep: bool, name: str, process: Process) -> None:
        if keep:
            Kept(self.state / "kept").add(name, process)
        else:
            running.callback(process.end)

    def _ask(self, url: str, tasks: Sequence[Query], target: float) -> list[Reply]:
        self.say(f"asking {len(tasks)} held-out queries at target accuracy {target:.3f}")
        return asyncio.run(ask_all(url, tasks, target_accuracy=target))

    def _traffic(self, url: str, log: Path, target: float) -> list[Reply]:
        """Questions that the log does not have: held-out ones never train, these may."""
        from rheostat.data.samples import read_samples
        from rheostat.data.tasks import load_tasks

        known = set(read_samples(log)["query_text"].unique())
        tasks = [task for task in load_tasks("pocket", n=4 * self.n_queries, seed=self.seed + 1) if task.text not in known][
            : self.n_queries
        ]
        self.say(f"asking {len(tasks)} questions that the log does not have, to learn from")
        return asyncio.run(ask_all(url, tasks, target_accuracy=target))

    def _retrain(self, log: Path, registry: Registry, config: Path, tracking_uri: str) -> tuple[Trained, Verdict]:
        from rheostat.serving.config import load
        from rheostat.training.fetch import fetch_segments
        from rheostat.training.ship import ship_once

        for segment in ship_once(Path(load(config).store.path), tracking_uri):
            self.say(f"shipped segment {segment.segment_id}: {segment.rows} rows in MLflow run {segment.run_id}")
        segments = fetch_segments(tracking_uri, self.state / "segments")
        return self._train([log, *segments], registry, "retraining on the log and the live outcomes")

    def _swap_note(self, url: str, verdict: Verdict, bundle: str) -> str:
        """With a new champion, wait until the running sidecar serves its bundle."""
        if not verdict.promoted:
            return f"the sidecar keeps serving champion version {verdict.champion}"
        began = time.monotonic()
        while time.monotonic() - began < SWAP_TIMEOUT_S:
            if _get(f"{url}/readyz").get("bundle") == bundle:
                return f"the running sidecar swapped to version {verdict.challenger} without a restart"
            time.sleep(0.2)
        return f"the sidecar did not swap to version {verdict.challenger} within {SWAP_TIMEOUT_S:.0f} s: see {self.state / 'sidecar.log'}"


def _notes(trained: Trained, verdict: Verdict, again: Trained, second: Verdict) -> list[str]:
    there = trained.evaluation.at_best_fixed
    return [
        f"offline: {trained.evaluation.verdict}: {trained.evaluation.reason}",
        f"asked for the best fixed action's accuracy, the router takes {_share(there.token_ratio)} of its tokens "
        f"and {_share(there.cost_ratio)} of its cost",
        f"the cheapest setting that is as accurate on the held-out queries takes {_share(there.token_ratio_on_curve)} of its tokens "
        f"and {_share(there.cost_ratio_on_curve)} of its cost",
        f"first promotion: {verdict.reason}",
        f"after retraining with {again.live.get('used', 0)} live outcomes: {second.reason}",
        f"report: {again.report}",
    ]


def _running(url: str, tracking_uri: str, engines: dict[str, EngineState]) -> list[str]:
    found = ", ".join(engine.url for engine in engines.values())
    return [f"MLflow page: {tracking_uri}", f"still running: sidecar {url}, MLflow {tracking_uri}, engines {found}"]


def _stopped(state: Path) -> str:
    return f"MLflow page: its server is stopped; `rheostat up --state {state}` runs it again and prints the address"


def _share(ratio: Interval) -> str:
    """How many times less, told as a share: 2.0 is 50%; a ratio of 0 stands for an accuracy that is not reached."""
    value, low, high = ("not reached" if each <= 0 else f"{1 / each:.0%}" for each in (ratio.value, ratio.high, ratio.low))
    return f"{value} (95% interval {low} to {high})"


def targets(evaluation: Evaluation) -> list[float]:
    """Three target accuracies that the log says can be met, up to about that of the best fixed action."""
    best = next(point.accuracy.value for point in evaluation.fixed if point.name == evaluation.best_fixed)
    return [round(best * share, 3) for share in SHARES]


def stop_kept(state: Path) -> list[str]:
    """End the engines, the MLflow and the sidecar that a kept demo left running; returns their names."""
    folder = state.resolve()
    engines = Engines(folder / "engines")
    ended = [status.name for status in engines.status() if engines.stop(status.name)]
    return ended + Kept(folder / "kept").stop_all()


def held_out_tasks(test_table: Path, log: Path, n: int, seed: int) -> list[Query]:
    """`n` queries of a training's test split with their references from the log, drawn evenly by seed."""
    import random

    from rheostat.data.samples import read_samples
    from rheostat.training.outcomes import OutcomeTable

    table = OutcomeTable.load(test_table)
    wanted = random.Random(seed).sample(sorted(zip(table.datasets, table.query_ids, strict=True)), min(n, len(table)))
    rows = read_samples(log).unique(["dataset", "query_id"], keep="first")
    known = {(row["dataset"], row["query_id"]): row for row in rows.iter_rows(named=True)}
    return [
        Query.of_text(row["query_text"], query_id=row["query_id"], kind=row["kind"], reference=row["gold"], dataset=row["dataset"])
        for row in (known[key] for key in wanted)
    ]


def _fixed_rows(trained: Trained) -> list[Row]:
    from rheostat.training.outcomes import OutcomeTable

    table = OutcomeTable.load(trained.folder / "test_table.npz")
    seconds = dict(zip(table.actions, table.latency_s.mean(axis=0), strict=True))
    return [_fixed_row(point, trained.evaluation.n_test, float(seconds[point.name])) for point in trained.evaluation.fixed]


def _fixed_row(point: Point, n: int, seconds: float) -> Row:
    accuracy: Interval = point.accuracy
    return Row(
        policy=point.name, n=n, accuracy=accuracy.value, low=accuracy.low, high=accuracy.high, tokens=point.tokens,
        calls=None, seconds=seconds,
    )  # fmt: skip


def _live_row(target: float, replies: Sequence[Reply]) -> Row:
    from rheostat.training.sweep_report import wilson

    n = len(replies)
    share = wilson(sum(reply.correct for reply in replies), n)
    return Row(
        policy=f"rheostat live, target {target:.3f}", n=n, accuracy=share.value, low=share.low, high=share.high,
        tokens=sum(r.tokens for r in replies) / n, calls=sum(r.calls for r in replies) / n, seconds=sum(r.seconds for r in replies) / n,
    )  # fmt: skip


def _conservation(asked: Sequence[Reply], spent: int) -> str:
    booked = sum(reply.tokens for reply in asked)
    verdict = "they agree" if booked == spent else f"they differ by {spent - booked}"
    return f"tokens: the answers' usage says {booked}, the engines' own counters say {spent}: {verdict}"


def generated_tokens(urls: Iterable[str]) -> int:
    """Tokens generated since start, by the engines' own counters."""
    return sum(_counter(url) for url in urls)


def _counter(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 - our own loopback URL
        return int(sum_metrics(answer.read().decode()).get("generation_tokens_total", 0.0))


def wait_ready(url: str, process: Process, log: Path) -> None:
    """Until a sidecar says so.

    Raises:
        RheostatError: it ended, or was not ready in time; the message shows or names its log.
    """
    began = time.monotonic()
    while time.monotonic() - began < READY_TIMEOUT_S:
        if not process.is_alive:
            raise RheostatError(f"the sidecar ended while starting; the end of {log}:\n{tail(log, 20)}")
        with contextlib.suppress(urllib.error.URLError, OSError):
            if _get(f"{url}/readyz").get("ready"):
                return
        time.sleep(0.2)
    raise RheostatError(f"the sidecar was not ready within {READY_TIMEOUT_S:.0f} s: see {log}")


def _wait_written(url: str) -> None:
    """Until the sidecar's last group commit: what it answered a moment ago is then in the store."""
    began = time.monotonic()
    while _get(f"{url}/readyz")["store"]["queued"]:
        if time.monotonic() - began > READY_TIMEOUT_S:
            raise RheostatError(f"the sidecar's store does not take its records: see {url}/readyz")
        time.sleep(0.05)


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback URL
        return dict(json.loads(answer.read()))


def _port(config: Path) -> int:
    from rheostat.serving.config import load

    return load(config).server.port
