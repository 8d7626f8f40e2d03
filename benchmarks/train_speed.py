"""How long training takes, and how much memory, on many simulated outcomes.

Questions are drawn from templates, every action's chance of being right depends on the template, the numbers in it and
the action, and every outcome is known. What is measured is `fit`: features, learners, choice, calibration, evaluation.

    python benchmarks/train_speed.py --queries 100000 --actions 10 --json train_speed.json
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer

TEMPLATES = (
    "What is {a} + {b}?",
    "A box holds {a} red and {b} blue balls. What is the chance that a ball is red?",
    "List the first {a} primes after {b}.",
    "Is {a} larger than {b}? Answer yes or no.",
    "Ann walks {a} km a day for {b} days. How far does she walk?",
    "Sort these numbers: {a}, {b}, 17, 4.",
    "Find x with {a} x + {b} = 0.",
    "Which city is the capital of region {a} in atlas {b}?",
)
STRATEGIES = (("direct", 64, ""), ("cot", 256, ""), ("self_consistency", 768, "(k=4)"), ("self_consistency", 1536, "(k=8)"))
KILO = 1024


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement; `steps_s` is when each step of the fit began, in seconds."""

    queries: int
    actions: int
    outcomes: int
    encoder: str
    seconds: float
    peak_gib: float
    learner: str
    verdict: str
    steps_s: dict[str, float]


def main(
    queries: Annotated[int, typer.Option(min=100)] = 100_000,
    actions: Annotated[int, typer.Option(min=2)] = 10,
    encoder: str = "static",
    cache: Annotated[Path, typer.Option(help="Where the static encoder is kept.")] = Path(".rheostat/encoders"),
    seed: int = 0,
    json: Path | None = None,
) -> None:
    """Simulate, fit, and print seconds and memory."""
    from rheostat.router.encoder import load_encoder
    from rheostat.training.fit import fit

    table = simulated(queries, actions, seed)
    loaded = load_encoder(encoder, cache_folder=cache)
    began, steps = time.perf_counter(), dict[str, float]()

    def progress(step: str, share: float) -> None:
        del share
        steps[step] = round(time.perf_counter() - began, 2)
        typer.echo(f"{steps[step]:8.1f} s  {step}", err=True)

    evaluation = fit(table, encoder=loaded, encoder_name=encoder, prices={}, seed=seed, on_progress=progress).evaluation
    measured = Measured(
        queries=queries,
        actions=actions,
        outcomes=queries * actions,
        encoder=encoder,
        seconds=round(time.perf_counter() - began, 1),
        peak_gib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _unit() / KILO**3, 2),
        learner=evaluation.learner,
        verdict=evaluation.verdict,
        steps_s=steps,
    )
    text = msgspec.json.format(msgspec.json.encode(measured), indent=1)
    if json is not None:
        json.write_bytes(text)
    typer.echo(text.decode())


def simulated(n: int, n_actions: int, seed: int):  # type: ignore[no-untyped-def]
    """An outcome table of `n` queries whose rewards are all known."""
    from rheostat.training.outcomes import OutcomeTable

    rng = np.random.default_rng(seed)
    template, a, b = rng.integers(0, len(TEMPLATES), n), rng.integers(2, 10_000, n), rng.integers(2, 10_000, n)
    texts = tuple(TEMPLATES[t].format(a=x, b=y) for t, x, y in zip(template, a, b, strict=True))
    spellings = tuple(_spelling(number) for number in range(n_actions))
    easy = rng.normal(0, 1, len(TEMPLATES))[template] - 0.3 * np.log(a)[:, None].ravel() / 4
    strength = np.linspace(-1.0, 1.5, n_actions) + 0.4 * rng.normal(size=(len(TEMPLATES), n_actions))[template]
    cells = np.ones((n, n_actions))
    return OutcomeTable(
        query_ids=tuple(map(str, range(n))),
        texts=texts,
        datasets=tuple(f"template-{t}" for t in template),
        levels=(0,) * n,
        actions=spellings,
        reward=(rng.random((n, n_actions)) < 1 / (1 + np.exp(-(easy[:, None] + strength)))).astype(np.float64),
        tokens=cells * np.geomspace(5, 800, n_actions) * rng.uniform(0.7, 1.3, (n, n_actions)),
        prompt_tokens=cells * 20.0,
        latency_s=cells * np.geomspace(0.1, 8, n_actions),
        weight=cells,
    )


def _spelling(number: int) -> str:
    strategy, cap, shape = STRATEGIES[number % len(STRATEGIES)]
    return f"model-{number // len(STRATEGIES)}/{strategy}{shape}@{cap}"


def _unit() -> int:
    """Bytes in the unit of ru_maxrss, which is KiB but on macOS."""
    return 1 if sys.platform == "darwin" else KILO


if __name__ == "__main__":
    typer.run(main)
