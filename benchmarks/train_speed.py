"""How long training takes, and how much memory, on many simulated outcomes.

What is measured is `fit`: features, learners, choice, calibration, evaluation.

    python benchmarks/train_speed.py --queries 100000 --actions 10 --json train_speed.json
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.simulated import simulated

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


def _unit() -> int:
    """Bytes in the unit of ru_maxrss, which is KiB but on macOS."""
    return 1 if sys.platform == "darwin" else KILO


if __name__ == "__main__":
    typer.run(main)
