"""What a decision costs in processor time: from a text, with its embedding given, and the next step of several actions.

    python benchmarks/decisions.py --docs docs/results.md

Routers of every learner are asked over 24 actions about questions that all differ; a learner's weights do not change what
asking it takes, so the outcomes they were fitted on are simulated. One thread; other programs on the machine cost
latency but hardly any processor time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.simulated import routers

if TYPE_CHECKING:
    from rheostat.router.bundle import Bundle

T = TypeVar("T")

ACTIONS = 24
LEARNERS = ("logistic", "lightgbm", "networks")
TRIED = 3  # actions whose answers are known at the step that is measured
WARM_UP = 200


class Row(NamedTuple):
    """One thing that was asked over and over: microseconds of wall time, and the mean of processor time."""

    what: str
    p50_us: float
    p99_us: float
    core_us: float


def main(
    times: Annotated[int, typer.Option(min=100, help="Each measurement is repeated.")] = 3000,
    queries: Annotated[int, typer.Option(min=200, help="Simulated questions to fit on.")] = 400,
    cache: Annotated[Path, typer.Option(help="Where the static encoder is kept.")] = Path(".rheostat/encoders"),
    docs: Annotated[Path | None, typer.Option(help="Page whose section is written.")] = None,
) -> None:
    """Fit, ask, and print a table."""
    from rheostat.router.encoder import load_encoder
    from rheostat.training.results_page import write_section

    made = routers(load_encoder("static", cache_folder=cache), "static", LEARNERS, queries=queries, actions=ACTIONS)
    rows = [row for bundle, learner in zip(made, LEARNERS, strict=True) for row in decided(bundle, learner, times)]
    page = section([*rows, stepped(times)], times)
    typer.echo(page)
    if docs is not None:
        write_section(docs, page)


def decided(bundle: Bundle, learner: str, times: int) -> list[Row]:
    """Whole decisions, and those whose embedding is known."""
    from rheostat.data.schema import Query
    from rheostat.router.ask import Ask
    from rheostat.router.controller import Controller

    asks = [Ask(Query.of_text(f"Ann walks {n + 3} km a day for {7 * n + 20} days. How far does she walk in all?")) for n in range(times)]
    controllers = {"text": Controller(bundle, prices={}), "embedding": Controller(bundle, prices={}, encoder=_Known(bundle))}
    return [measured(f"{learner}, from the {given}", each.decide, asks) for given, each in controllers.items()]


def stepped(times: int) -> Row:
    """The next step of the sequential policy over as many actions, of which some have answered."""
    from rheostat.router.sequential import NO_ANSWER, Network, SequentialPolicy, prior_rows
    from rheostat.training.sequential import Plan

    rng, plan = np.random.default_rng(0), Plan()

    def network(*widths: int) -> Network:
        weights = (rng.normal(0, 0.05, pair).astype(np.float32) for pair in pairwise(widths))
        return Network(tuple(weights), tuple(np.zeros(width, dtype=np.float32) for width in widths[1:]))

    judge = network(4 * ACTIONS + 3, plan.members * plan.judge_width, 1)
    gain = network(5 * ACTIONS + 6, *(plan.members * width for width in plan.gain_widths), ACTIONS)
    policy, cost = SequentialPolicy(judge, gain, 1.0, plan.depth), np.geomspace(0.001, 0.1, ACTIONS)
    run = np.arange(ACTIONS) < TRIED
    answers = np.where(run, np.arange(ACTIONS) % 2, NO_ANSWER).astype(np.int16)
    priors = list(prior_rows(rng.uniform(0.1, 0.9, (times, ACTIONS))))
    return measured("next of several actions", lambda prior: policy.step(prior, answers, run, cost, multiplier=1.0), priors)


def measured(what: str, work: Callable[[T], object], asked: list[T]) -> Row:
    """How long `work` takes on each of what is asked, after a warm-up."""
    for each in asked[:WARM_UP]:
        work(each)
    took, core = np.empty(len(asked)), time.thread_time()
    for number, each in enumerate(asked):
        began = time.perf_counter()
        work(each)
        took[number] = time.perf_counter() - began
    core = time.thread_time() - core
    p50, p99 = np.quantile(took, [0.5, 0.99])
    return Row(what, *(1e6 * seconds for seconds in (p50, p99, core / len(asked))))


def section(rows: list[Row], times: int) -> str:
    """The section of the page."""
    from rheostat.training.results_page import markdown

    lead = (
        f"Written by `python benchmarks/decisions.py --times {times} --docs docs/results.md`.\n\nMicroseconds to decide over {ACTIONS} "
        "actions, in one thread. From the text: embedding, lexicon, statistics, chances, costs, the rule and the record. *Core*: mean "
        f"processor time, which other programs hardly change. The last row is a step of the sequential policy, {TRIED} actions having "
        "answered."
    )
    table = markdown(["decision", "p50", "p99", "core"], [[what, *(f"{value:.0f}" for value in values)] for what, *values in rows])
    return f"## Decisions\n\n{lead}\n\n{table}\n"


class _Known:
    """An encoder that knows one embedding."""

    def __init__(self, bundle: Bundle) -> None:
        self.encoder_id = bundle.encoder.encoder_id
        self.dimension = bundle.encoder.dimension
        self._row = bundle.encoder.encode(["How far does she walk in all?"])

    def encode(self, texts: list[str]) -> np.ndarray:  # noqa: ARG002
        return self._row


if __name__ == "__main__":
    typer.run(main)
