"""Votes and best-of-n as its-hub and optillm do them, next to rheostat's, on one engine and the same questions.

    python benchmarks/peers/run.py --install FOLDER --questions 240 --docs docs/results.md

--install puts each peer into an environment of its own there, which takes minutes the first time; one that is not found or
fails is left out, with the reason. Tokens are the engine's own count, next to those that each one reports. The learned stop
rule is fitted on a log first, and none of that log's questions are asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.environments import installed
from rheostat.data.answers import extract, same
from rheostat.data.errors import DatasetError
from rheostat.data.samples import read_samples
from rheostat.data.schema import Action, Query
from rheostat.data.tasks import load_tasks
from rheostat.policies.backend import VllmBackend
from rheostat.policies.base import StopRule
from rheostat.policies.engine import Engines, EngineState
from rheostat.policies.learned_stop import PriorRule
from rheostat.policies.prompts import step_by_step
from rheostat.policies.run import run_action
from rheostat.policies.weights import resolve_weights
from rheostat.training.bootstrap import Bootstrap
from rheostat.training.learned_actions import votes_only_rule
from rheostat.training.results_page import markdown, write_section
from rheostat.training.sample_log import SampleLog

HEADING = "## Peers"
HERE = Path(__file__).parent
# pip was still resolving optillm's requirements after 45 minutes, so only those come along that its votes need.
OPTILLM_NEEDS = (
    "openai",
    "flask",
    "numpy",
    "networkx",
    "z3-solver<=4.15.4.0",
    "sympy",
    "math-verify",
    "pyyaml",
    "aiohttp",
    "cerebras_cloud_sdk",
    "requests",
)
PACKAGES = {"its_hub": (("its_hub[lm]",),), "optillm": (("--no-deps", "optillm"), OPTILLM_NEEDS)}
CHAIN_TOKENS = 192
TEMPERATURE = 0.8
IN_FLIGHT = 16
# vLLM renders an empty system message as a turn; optillm always sends one, and the pocket models have never seen any.
WITHOUT_EMPTY = "{%- set messages = messages | rejectattr('content', 'equalto', '') | list -%}"


class Told(msgspec.Struct, frozen=True):
    """What a contender gave to one question, and the tokens that it says it took."""

    text: str
    tokens: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One contender; `note` is why it is missing."""

    name: str
    right: list[float] = []
    generated: int = 0
    reported: int = 0
    seconds: float = 0.0
    note: str = ""


class Bench:
    """One engine and the questions that everybody is asked."""

    def __init__(self, engine: EngineState, queries: Sequence[Query], *, k: int, seed: int) -> None:
        self._engine, self._queries = engine, queries
        self._k, self._seed = k, seed

    def ours(self, shape: str, rule: StopRule | None = None) -> Row:
        """An action of the catalogue, with what was learned about when to stop it."""
        action = action_of(self._engine.name, shape, self._k)
        return self._row(f"rheostat, `{shape}`", lambda: asyncio.run(self._run_all(action, rule)))

    def peer(self, package: str, algorithm: str, folder: Path) -> Row:
        """A peer's algorithm, in its own environment."""
        name, python = f"{package.replace('_', '-')}, {algorithm.replace('_', ' ')}", folder.absolute() / package / "bin" / "python"
        if not python.exists():
            return Row(name=name, note="not installed")
        try:
            return self._row(name, lambda: self._asked(python, HERE / f"ask_{package}.py", algorithm))
        except (subprocess.CalledProcessError, msgspec.DecodeError) as error:
            return Row(name=name, note=f"failed: {str(getattr(error, 'stderr', '') or error).strip().splitlines()[-1][:120]}")

    def _row(self, name: str, ask: Callable[[], list[Told]]) -> Row:
        typer.echo(name, err=True)
        before, began = asyncio.run(self._generated()), time.perf_counter()
        told = ask()
        seconds = time.perf_counter() - began
        right = [self._is_right(query, each.text) for query, each in zip(self._queries, told, strict=True)]
        generated, reported = asyncio.run(self._generated()) - before, sum(each.tokens for each in told)
        return Row(name=name, right=right, generated=generated, reported=reported, seconds=seconds)

    def _is_right(self, query: Query, text: str) -> float:
        kind = query.kind or "text"
        answer = extract(text, kind)
        return float(answer is not None and same(answer, query.reference or "", kind))

    def _asked(self, python: Path, program: Path, algorithm: str) -> list[Told]:
        plan = {
            "url": self._engine.url, "model": self._engine.name, "algorithm": algorithm, "k": self._k, "temperature": TEMPERATURE,
            "max_tokens": CHAIN_TOKENS, "in_flight": IN_FLIGHT,
            "questions": [step_by_step(query.messages)[-1]["content"] for query in self._queries],
        }  # fmt: skip
        done = subprocess.run([python, program], input=json.dumps(plan), capture_output=True, text=True, check=True)
        return msgspec.json.decode(done.stdout, type=list[Told])

    async def _run_all(self, action: Action, rule: StopRule | None) -> list[Told]:
        gate = asyncio.Semaphore(IN_FLIGHT)
        async with VllmBackend(self._engine.name, self._engine.url, model=self._engine.name) as backend:

            async def one(number: int, query: Query) -> Told:
                async with gate:
                    found = await run_action(
                        action, query, {self._engine.name: backend},
                        kind=query.kind or "text", seed=self._seed + number * self._k, rule=rule,
                    )  # fmt: skip
                return Told(found.text, found.ledger.generated)

            return list(await asyncio.gather(*(one(number, query) for number, query in enumerate(self._queries))))

    async def _generated(self) -> int:
        """The engine's own count, once nothing is running."""
        async with VllmBackend(self._engine.name, self._engine.url) as backend:
            while (found := await backend.metrics())["num_requests_running"]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        return int(found["generation_tokens_total"])


def engine_for_all(engines: Engines, model: str) -> EngineState:
    """The model on an engine that leaves empty messages out of the prompt."""
    weights = resolve_weights(model)
    template = engines.folder / f"{weights.name}-peers.jinja"
    engines.folder.mkdir(parents=True, exist_ok=True)
    template.write_text(WITHOUT_EMPTY + (Path(weights.path) / "chat_template.jinja").read_text(encoding="utf-8"), encoding="utf-8")
    return engines.start(model, name=f"{weights.name}-peers", extra_args=("--chat-template", str(template)))


def action_of(model: str, shape: str, k: int) -> Action:
    """An action with room for all its samples, and for as many calls to a judge."""
    return Action.parse(f"{model}/{shape}@{2 * k * CHAIN_TOKENS}")


def learned_rule(model: str, shape: str, k: int, log: SampleLog, seed: int) -> StopRule | None:
    """What the log teaches about when to stop; None where that is no better than `lead(2)`, which is then what is run."""
    policy = votes_only_rule(action_of(model, shape, k), log, seed=seed)
    return None if policy is None else PriorRule(policy)


def unseen(tasks: str, log: SampleLog, n: int, seed: int) -> list[Query]:
    """Questions that the log does not hold.

    Raises:
        DatasetError: the task set has too few of them.
    """
    seen = set(log.texts)
    fresh = [query for query in load_tasks(tasks, n=len(log) + n, seed=seed) if query.text not in seen]
    if len(fresh) < n:
        raise DatasetError(f"--tasks {tasks} has {len(fresh)} questions that the log does not hold, {n} are needed: ask fewer")
    return fresh[:n]


def section(command: str, rows: Sequence[Row], *, k: int, model: str, load: float, seed: int) -> str:
    """The section under `HEADING`; differences are to the first row, which is there."""
    reading = (
        f"{len(rows[0].right)} questions to `{model}` on one vLLM engine, {k} chains of thought at temperature {TEMPERATURE:g} and at most "
        f"{CHAIN_TOKENS} tokens, {IN_FLIGHT} questions at once. All final texts are graded alike. *Generated* is the engine's "
        f"own count of everything, *reported* what each one says it took. Load average {load:.1f} on {os.cpu_count()} cores when it began: "
        "seconds tell of the neighbours too. optillm samples for best-of-n at temperature 1, which is fixed there. `stop=learned` was "
        "fitted on the votes of the kept log, which holds none of these questions; differences are to the first row, paired by question. "
        "its-hub's adaptive vote ends once three quarters of 2 or of 4 samples agree, so two alike are enough for it, as for `lead(2)`; "
        "`beta(0.95)` wants four."
    )
    columns = ["", "right (95%)", "over the first", "tokens generated", "tokens reported", "reported / generated", "seconds"]
    table = markdown(columns, [_cells(row, rows[0], seed) for row in rows])
    return "\n\n".join([HEADING, f"Written by `{command}`.", reading, table]) + "\n"


def _cells(row: Row, first: Row, seed: int) -> list[str]:
    if row.note:
        return [row.name, row.note, "-", "-", "-", "-", "-"]
    boot = Bootstrap(len(row.right), seed=seed)
    share, over = boot.interval(np.array(row.right)), boot.interval(np.array(row.right) - np.array(first.right))
    right = f"{share.value:.3f} ({share.low:.3f}-{share.high:.3f})"
    gain = "-" if row is first else f"{over:+.3f}"
    return [row.name, right, gain, f"{row.generated:,}", f"{row.reported:,}", f"{row.reported / row.generated:.3f}", f"{row.seconds:.0f}"]


def main(
    install: Annotated[Path, typer.Option(help="Folder of the peers' environments.")] = Path(".rheostat/peers"),
    model: Annotated[str, typer.Option(help="pocket or pocket-large.")] = "pocket-large",
    questions: Annotated[int, typer.Option(min=8)] = 240,
    k: Annotated[int, typer.Option("--k", min=2, help="Samples a question.")] = 8,
    tasks: Annotated[str, typer.Option(help="As rheostat sweep takes them.")] = "pocket",
    log: Annotated[Path, typer.Option(help="Samples that the learned stop rule is fitted on.")] = Path("data/logs/pocket.parquet"),
    docs: Annotated[Path | None, typer.Option(help="Page whose section is written.")] = None,
    state: Annotated[Path, typer.Option(help="Folder of the engine.")] = Path(".rheostat"),
    seed: int = 0,
) -> None:
    """Install, ask everybody, write the section."""
    for package, wanted in PACKAGES.items():
        installed(install / package, "python", wanted)
    samples, load = SampleLog.of(read_samples(log)), os.getloadavg()[0]
    bench = Bench(engine_for_all(Engines(state / "engines"), model), unseen(tasks, samples, questions, seed), k=k, seed=seed)
    learned = f"self_consistency(k={k},stop=learned)"
    rows = [
        bench.ours(f"self_consistency(k={k})"), bench.peer("its_hub", "self_consistency", install),
        bench.peer("optillm", "majority_voting", install), bench.ours(f"self_consistency(k={k},stop=beta(0.95))"),
        bench.ours(f"self_consistency(k={k},stop=lead(2))"), bench.ours(learned, learned_rule(model, learned, k, samples, seed)),
        bench.peer("its_hub", "adaptive", install), bench.ours(f"best_of_n(n={k})"), bench.ours(f"best_of_n(n={k},by=self)"),
        bench.peer("optillm", "best_of_n", install),
    ]  # fmt: skip
    command = f"python benchmarks/peers/run.py --install FOLDER --model {model} --questions {questions} --k {k}"
    command += f" --tasks {tasks} --log {log} --seed {seed}"
    page = section(command, rows, k=k, model=model, load=load, seed=seed)
    typer.echo(page)
    if docs is not None:
        write_section(docs, page)


if __name__ == "__main__":
    typer.run(main)
