"""What n-gram speculation does to an engine: accuracy, answers and tokens a second with and without it, and what doctor says.

    python benchmarks/speculation.py --model pocket --questions 200 --docs docs/strategies-results.md

Starts the plain engine and the same model with vLLM's n-gram speculation, and asks both the same questions for chains of
thought, greedily and at temperature 0.8, one engine at a time. `rheostat doctor` then examines a configuration in which
the second is a profile of the first.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from rheostat.data.answers import same
from rheostat.data.schema import Query
from rheostat.data.tasks import load_tasks
from rheostat.policies.backend import VllmBackend
from rheostat.policies.base import GenerateRequest, Meter
from rheostat.policies.engine import Engines, EngineState
from rheostat.policies.evidence import candidate
from rheostat.policies.likeness import Drawn, Likeness, likeness
from rheostat.policies.prompts import step_by_step
from rheostat.training.results_page import markdown, write_section

HEADING = "## N-gram speculation"
SPECULATION = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 4}
CHAIN_TOKENS = 192
IN_FLIGHT = 32
ROOMY = 10**9
ACCEPTED, DRAFTED = "spec_decode_num_accepted_tokens_total", "spec_decode_num_draft_tokens_total"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine gave at one temperature; `accepted` is the share of drafted tokens, where it drafts."""

    drawn: list[Drawn]
    tokens: int
    seconds: float
    accepted: float | None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Both engines at one temperature."""

    temperature: float
    plain: Run
    profile: Run

    @property
    def likeness(self) -> Likeness:
        """How the answers compare."""
        return likeness(list(zip(self.plain.drawn, self.profile.drawn, strict=True)))


class Verdict(msgspec.Struct, frozen=True):
    """What doctor found of the profile."""

    state: str
    found: str


async def drawn(engine: EngineState, queries: list[Query], *, temperature: float, n: int, seed: int) -> Run:
    """The answers of an engine, and how fast they came."""
    gate = asyncio.Semaphore(IN_FLIGHT)
    async with VllmBackend(engine.name, engine.url, model=engine.name) as backend:

        async def one(number: int, query: Query) -> Drawn:
            request = GenerateRequest(
                model=engine.name, messages=step_by_step(query.messages), max_tokens=CHAIN_TOKENS, n=n, temperature=temperature,
                seed=seed + number * n,
            )  # fmt: skip
            async with gate:
                completions = (await backend.generate(request, Meter(ROOMY))).completions
            kind = query.kind or "text"
            answers = tuple(candidate(c, index=c.index, model=engine.name, kind=kind).answer or "" for c in completions)
            return Drawn(answers, sum(bool(a) and same(a, query.reference or "", kind) for a in answers) / len(answers))

        before, began = await backend.metrics(), time.perf_counter()
        found = await asyncio.gather(*(one(number, query) for number, query in enumerate(queries)))
        seconds, after = time.perf_counter() - began, await backend.metrics()
    spent = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in ("generation_tokens_total", ACCEPTED, DRAFTED)}
    accepted = spent[ACCEPTED] / spent[DRAFTED] if spent[DRAFTED] else None
    return Run(drawn=list(found), tokens=int(spent["generation_tokens_total"]), seconds=seconds, accepted=accepted)


async def compared(plain: EngineState, profile: EngineState, queries: list[Query], *, samples: int, seed: int) -> list[Compared]:
    """Greedily and at 0.8; the engines draw with different seeds, and one after the other, for the sake of the clock."""
    found = []
    for temperature, n in ((0.0, 1), (0.8, samples)):
        typer.echo(f"temperature {temperature:g}", err=True)
        runs = [
            await drawn(each, queries, temperature=temperature, n=n, seed=seed + at * ROOMY) for at, each in enumerate((plain, profile))
        ]
        found.append(Compared(temperature=temperature, plain=runs[0], profile=runs[1]))
    return found


def examined(plain: EngineState, profile: EngineState, questions: int) -> Verdict:
    """What `rheostat doctor` says of the profile, asked as a user would."""
    backends = [
        f'[[backend]]\nname = "{each.name}"\nmodel = "{each.name}"\nurl = "{each.url}"\n'
        + (f'profile_of = "{plain.name}"\n' * (each is profile))
        for each in (plain, profile)
    ]
    with tempfile.TemporaryDirectory() as folder:
        config, told = Path(folder) / "rheostat.toml", Path(folder) / "doctor.json"
        config.write_text("\n".join(backends), encoding="utf-8")
        command = ["doctor", str(config), "--state", folder, "--n", str(questions), "--json", str(told)]
        subprocess.run([sys.executable, "-m", "rheostat", *command], check=False, cwd=folder)
        checks = msgspec.json.decode(told.read_bytes())
    return next(Verdict(each["state"], each["found"]) for each in checks if each["part"] == profile.name and each["what"].startswith("as "))


def section(command: str, found: list[Compared], verdict: Verdict, load: float) -> str:
    """The section under `HEADING`."""
    rows = []
    for each in found:
        alike = each.likeness
        difference = f"{alike.difference:+.3f} (+- {alike.half_width:.3f})"
        rows += [
            [f"{each.temperature:g}", "plain", f"{alike.plain_accuracy:.3f}", "", "", _speed(each.plain), ""],
            [
                f"{each.temperature:g}", "n-gram", f"{alike.profile_accuracy:.3f}", difference, f"{alike.p_same_answers:.3f}",
                _speed(each.profile), "-" if each.profile.accepted is None else f"{each.profile.accepted:.1%}",
            ],
        ]  # fmt: skip
    columns = ["temperature", "engine", "right", "difference (99%)", "answers alike, p", "tokens/s", "drafts accepted"]
    reading = (
        f"{found[0].likeness.questions} questions, one greedy chain and {len(found[1].plain.drawn[0].answers)} sampled ones each, "
        f"{IN_FLIGHT} calls in flight, one engine at a time, `{msgspec.json.encode(SPECULATION).decode()}`. Load average {load:.1f} on "
        f"{os.cpu_count()} cores when it began, so tokens/s tell of the neighbours too: compare them within a row pair."
    )
    said = {"ok": "admits", "fail": "refuses"}.get(verdict.state, "does not judge")
    told = f"`rheostat doctor` {said} the profile: {verdict.found}."
    return "\n\n".join([HEADING, f"Written by `{command}`.", reading, markdown(columns, rows), told]) + "\n"


def _speed(run: Run) -> str:
    return f"{run.tokens / run.seconds:,.0f}"


def main(
    model: Annotated[str, typer.Option(help="The model, as rheostat engine start takes it.")] = "pocket",
    questions: Annotated[int, typer.Option(min=8)] = 200,
    samples: Annotated[int, typer.Option(min=1, help="Chains a question at temperature 0.8.")] = 4,
    tasks: Annotated[str, typer.Option(help="As rheostat sweep takes them.")] = "pocket",
    docs: Annotated[Path | None, typer.Option(help="Page whose section is written.")] = None,
    state: Annotated[Path, typer.Option(help="Folder of the engines.")] = Path(".rheostat"),
    seed: int = 0,
) -> None:
    """Measure, examine, write the section."""
    load, engines = os.getloadavg()[0], Engines(state / "engines")
    plain = engines.start(model)
    profile = engines.start(
        model, name=f"{plain.name}-ngram", extra_args=("--speculative-config", msgspec.json.encode(SPECULATION).decode())
    )
    queries = load_tasks(tasks, n=questions, seed=seed)
    found = asyncio.run(compared(plain, profile, queries, samples=samples, seed=seed))
    command = f"python benchmarks/speculation.py --model {model} --questions {questions} --samples {samples}"
    command += f" --tasks {tasks} --seed {seed}"
    page = section(command, found, examined(plain, profile, questions), load)
    typer.echo(page)
    if docs is not None:
        write_section(docs, page)


if __name__ == "__main__":
    typer.run(main)
