"""`rheostat doctor`: is everything there that a sidecar needs, and does it do what it should."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import CONFIG, STATE, Json, Seed, State, load_config, progress, show

if TYPE_CHECKING:
    from rheostat.serving.checkup import Check
    from rheostat.serving.config import BackendConfig, Config

TASKS = "pocket"


def doctor(
    config: Annotated[Path, typer.Argument(help="The sidecar's configuration; the local pocket engines when there is none.")] = CONFIG,
    state: State = STATE,
    tasks: Annotated[str, typer.Option(help="Questions on which accelerated engines are compared with their plain ones.")] = TASKS,
    n: Annotated[int, typer.Option("--n", help="How many of them.", min=8)] = 200,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Check config, engines, bundle, store, MLflow, access and logs.

    Every feature of every engine is tried out. A backend with profile_of is held against the plain engine it accelerates:
    accuracy and answers must be alike within their intervals. Status 1 when something has to be done.

    Example: rheostat doctor rheostat.toml
    """
    import os

    from rheostat.serving.checkup import Check

    loaded = load_config(config, state)
    what = str(config) if config.exists() else f"built in: there is no {config}"
    checks = [Check(part="config", what=what, state="ok", found=f"{len(loaded.backend)} backends, {len(loaded.tier)} tiers")]
    with progress("examining") as advance:
        checks += asyncio.run(_examine(loaded, os.environ, tasks=tasks, n=n, seed=seed, advance=advance))
    rows = [[check.part, check.what, check.state, check.found, check.do] for check in checks]
    show("examination", ["part", "what", "", "found", "to do"], rows, json=json, value=checks)
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(1)


async def _examine(
    config: Config, environ: Mapping[str, str], *, tasks: str, n: int, seed: int, advance: Callable[[str, float], None]
) -> list[Check]:
    from rheostat.serving.checkup import check_surroundings

    accelerated = [backend for backend in config.backend if backend.profile_of]
    steps = len(config.backend) + len(accelerated) + 1
    checks = []
    for number, backend in enumerate(config.backend):
        advance(backend.name, number / steps)
        checks += await _engine(backend, environ)
    for number, backend in enumerate(accelerated, len(config.backend)):
        plain = next(other for other in config.backend if other.model == backend.profile_of)
        step = functools.partial(_part, advance, f"comparing {backend.name}", number, steps)
        checks.append(await _profile(plain, backend, environ, tasks=tasks, n=n, seed=seed, advance=step))
    advance("bundle, store, MLflow", (steps - 1) / steps)
    return checks + await check_surroundings(config, environ=environ)


def _part(advance: Callable[[str, float], None], what: str, number: int, steps: int, share: float) -> None:
    """Progress within one of several steps."""
    advance(what, (number + share) / steps)


async def _engine(backend: BackendConfig, environ: Mapping[str, str]) -> list[Check]:
    """All features of one engine."""
    from rheostat.data.errors import ConfigError
    from rheostat.policies.probing import Prober
    from rheostat.serving.checkup import Check
    from rheostat.serving.fleet import build_engine

    try:
        engine = build_engine(backend, environ)
    except ConfigError as error:
        return [Check(part=backend.name, what="key", state="fail", found=str(error), do="set the variable")]
    async with engine:
        probes = await Prober(engine, backend.served_model or backend.model).run()
    return [Check(part=backend.name, what=p.feature, state=p.finding, found=p.found, do=p.do) for p in probes]


async def _profile(
    plain: BackendConfig,
    profile: BackendConfig,
    environ: Mapping[str, str],
    *,
    tasks: str,
    n: int,
    seed: int,
    advance: Callable[[float], None],
) -> Check:
    """An accelerated engine against its plain one."""
    from rheostat.data.errors import RheostatError
    from rheostat.data.tasks import load_tasks
    from rheostat.policies.likeness import compare
    from rheostat.serving.checkup import Check
    from rheostat.serving.fleet import build_engine

    what = f"as {plain.name}"
    try:
        async with build_engine(plain, environ) as one, build_engine(profile, environ) as other:
            queries = load_tasks(tasks, n=n, seed=seed)
            found = await compare(one, other, queries, models=(plain.model, profile.model), seed=seed, on_progress=advance)
    except RheostatError as error:
        return Check(part=profile.name, what=what, state="fail", found=str(error)[:200], do="repair the engines first")
    if found.is_alike:
        return Check(part=profile.name, what=what, state="ok", found=found.verdict)
    do = "do not serve this profile: its acceleration changes what the model says" if found.is_other else "ask more questions: --n"
    return Check(part=profile.name, what=what, state="fail", found=found.verdict, do=do)
