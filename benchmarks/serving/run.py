"""What a gateway costs: this sidecar next to nginx, vllm-router and LiteLLM before one fast upstream, in one run.

    python benchmarks/serving/run.py --json serving.json

nginx is the system's package. vllm-router and LiteLLM are Python packages: --install FOLDER puts each into an environment
of its own there, which takes minutes the first time. What is not found is left out, and the table says so.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import psutil
import typer
import uvloop
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.environments import installed
from benchmarks.serving import gateways, page
from benchmarks.serving.gateways import ACTIONS, BARE, DIRECT, LEAST, PASS_THROUGH, RIVALS, Gateway, Place, routed
from benchmarks.serving.measure import Bench, Row
from benchmarks.stacks import Process
from rheostat.training.results_page import write_section

PACKAGES = {"vllm-router": "vllm-router", "litellm": "litellm[proxy]"}
WIDTH = 140  # of the table, also where the terminal is narrower: folded numbers cannot be read


def main(
    json: Annotated[Path | None, typer.Option(help="File for the results.")] = None,
    docs: Annotated[Path | None, typer.Option(help="Page whose section is written, as docs/results.md.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    seconds: Annotated[float, typer.Option(min=0.05, help="Of every window.")] = 1.0,
    encoder: Annotated[
        list[str] | None, typer.Option(help="Of the routed sidecars: static, minilm, minilm-int8; repeat for several.")
    ] = None,
    install: Annotated[Path | None, typer.Option(help="Folder to install vllm-router and LiteLLM into.")] = None,
    nginx: Annotated[Path, typer.Option(help="The program.")] = Path("nginx"),
    rivals: Annotated[bool, typer.Option(help="Whether to measure other gateways too.")] = True,
    cache: Annotated[Path, typer.Option(help="Where encoders and bundles are kept.")] = Path(".rheostat/serving-benchmark"),
) -> None:
    """Measure every gateway and print a table."""
    encoders = encoder or ["static"]
    programs = {"nginx": nginx} | (
        {} if install is None else {name: installed(install / name, name, [[package]]) for name, package in PACKAGES.items()}
    )
    bundles = {name: gateways.bundle(name, cache) for name in encoders}
    chosen = [*(RIVALS if rivals else ()), BARE, LEAST, PASS_THROUGH, *map(routed, encoders)]
    cores = pinned()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        place = Place(Path(folder), upstream=0, prefix=_prefix(cores), programs=programs, bundles=bundles)
        rows = uvloop.run(measure(place, chosen, rounds=rounds, seconds=seconds))
    results = page.Results(
        command=_spelled(encoders, rounds=rounds, seconds=seconds, installs=install is not None, rivals=rivals),
        cores=os.cpu_count() or 1,
        pinned=cores,
        rounds=rounds,
        seconds=seconds,
        load_average=(before, os.getloadavg()[0]),
        learner=f"boosted trees over {ACTIONS} actions",
        rows=rows,
    )
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    if docs is not None:
        write_section(docs, page.section(results))
    Console(width=max(WIDTH, Console().width)).print(table(results))


def _spelled(encoders: Sequence[str], *, rounds: int, seconds: float, installs: bool, rivals: bool) -> str:
    """The command without what differs from machine to machine."""
    parts = [f"--rounds {rounds} --seconds {seconds:g}", *(["--install FOLDER"] if installs else []), *([] if rivals else ["--no-rivals"])]
    parts += [f"--encoder {name}" for name in encoders]
    return " ".join(["python benchmarks/serving/run.py", *parts, "--docs docs/results.md"])


async def measure(place: Place, chosen: Sequence[Gateway], *, rounds: int, seconds: float) -> list[Row]:
    """The rows of the upstream alone and of every gateway; of one that does not start, with the reason.

    Args:
        place: its upstream's port is set here.
        chosen: the gateways, in the order of the rows.
        rounds: how often each window is measured.
        seconds: how long a window is.
    """
    with ExitStack() as running:
        direct = _started(DIRECT, place, running)
        place = Place(place.folder, direct.process.port, place.prefix, place.programs, place.bundles)
        benches: dict[str, Bench | str] = {DIRECT.name: direct}
        for gateway in chosen:
            try:
                benches[gateway.name] = _started(gateway, place, running)
            except (FileNotFoundError, RuntimeError) as error:
                benches[gateway.name] = str(error) if isinstance(error, FileNotFoundError) else "does not start"
                typer.echo(f"{gateway.name}: {error}", err=True)
        await _rounds([bench for bench in benches.values() if isinstance(bench, Bench)], rounds, seconds)
        return [Row(name=name, note=bench) if isinstance(bench, str) else bench.row(direct) for name, bench in benches.items()]


async def _rounds(benches: Sequence[Bench], rounds: int, seconds: float) -> None:
    for bench in benches:
        await bench.warm()
    for done in range(rounds):
        # No live progress bar: the thread that draws it would take part in what is measured.
        typer.echo(f"round {done + 1} of {rounds}", err=True)
        for bench in benches:
            await bench.round(seconds)


def _started(gateway: Gateway, place: Place, running: ExitStack) -> Bench:
    process: Process = gateway.start(place)
    running.callback(process.end)
    process.wait(gateway.health)
    return Bench(gateway, process)


def pinned() -> tuple[int, int] | None:
    """Put this process on its core; the gateways' core and this one, or None where there is one core, or no pinning."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return None
    gateway, load = sorted(os.sched_getaffinity(0))[:2]
    psutil.Process().cpu_affinity([load])
    return gateway, load


def _prefix(cores: tuple[int, int] | None) -> tuple[str, ...]:
    """Gateways get one core, and libraries in them one thread."""
    one_thread = ("env", "OMP_NUM_THREADS=1", "TOKENIZERS_PARALLELISM=false")
    return one_thread if cores is None else (*one_thread, "taskset", "-c", str(cores[0]))


def table(results: page.Results) -> Table:
    """The measures as a table; a column is a gateway."""
    shown = Table(title="microseconds, where nothing else is said", caption=f"load average {results.load_average[0]:.1f}")
    shown.add_column("")
    for row in results.rows:
        shown.add_column(row.name, justify="right")
    for line in page.lines(results, page.MEASURES):
        shown.add_row(*line)
    return shown


if __name__ == "__main__":
    typer.run(main)
