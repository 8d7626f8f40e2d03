"""`rheostat engine`: start, stop and look at local vLLM servers."""

from __future__ import annotations

from typing import Annotated

import typer

from rheostat.commands.common import STATE, Json, State, progress, show

app = typer.Typer(help="Start, stop and look at local vLLM servers.", no_args_is_help=True, rich_markup_mode=None)

Model = Annotated[str, typer.Option("--model", "-m", help="pocket, pocket-large, pocket-prm, smol, or a path or name that vLLM can load.")]
MaybeModel = Annotated[str | None, typer.Option("--model", "-m", help="Name of the engine; all of them when left out.")]


@app.command(epilog="Example: rheostat engine start --model pocket-large --port 8101 -- --max-num-seqs 512")
def start(
    vllm: Annotated[list[str] | None, typer.Argument(help="More arguments for the vLLM server, behind --.")] = None,
    model: Model = "pocket",
    name: Annotated[str | None, typer.Option(help="What it is called and serves; the model's own name when left out.")] = None,
    port: Annotated[int | None, typer.Option(help="Loopback port; a free one from 8100 when left out.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until it is ready.")] = 600.0,
    state: State = STATE,
    json: Json = None,
) -> None:
    """Start an engine and wait until it is ready. Ctrl-C before that ends it."""
    from rheostat.data.errors import EngineError
    from rheostat.policies.engine import Engines, resolve_name

    if vllm and not vllm[0].startswith("-"):  # vLLM takes such a word too, and serves what --model says
        raise EngineError(f"{vllm[0]!r} is no argument for the vLLM server: a model is named with --model {vllm[0]}")
    engines = Engines(state / "engines")
    try:
        with progress(f"starting {model}") as advance:
            started = engines.start(
                model,
                name=name,
                port=port,
                timeout_s=timeout,
                on_progress=lambda line, waited: advance(line, waited / timeout),
                extra_args=tuple(vllm or ()),
            )
    except KeyboardInterrupt:
        left = engines.find(name or resolve_name(model))
        told = "the engine was ended" if left is None else f"engine {left.name!r}, which another command started, goes on"
        typer.echo(f"stopped: {told}", err=True)
        raise typer.Exit(130) from None
    show(
        "engine",
        ["name", "url", "pid", "log"],
        [[started.name, started.url, started.process.pid, started.log_path]],
        json=json,
        value=started,
    )


@app.command(epilog="Example: rheostat engine stop --model pocket")
def stop(model: MaybeModel = None, state: State = STATE) -> None:
    """Stop one engine, or all."""
    from rheostat.policies.engine import Engines, resolve_name

    engines = Engines(state / "engines")
    for name in [resolve_name(model)] if model else [s.name for s in engines.status()]:
        typer.echo(f"{name}: {'stopped' if engines.stop(name) else 'was not running'}")


@app.command(epilog="Example: rheostat engine status --json -")
def status(state: State = STATE, json: Json = None) -> None:
    """Show the engines started here and whether they answer."""
    from rheostat.policies.engine import Engines

    found = Engines(state / "engines").status()
    rows = [[s.name, s.state, s.url, s.pid, s.log_path] for s in found]
    show("engines", ["name", "state", "url", "pid", "log"], rows, json=json, value=found)


@app.command(epilog="Example: rheostat engine logs --model pocket --lines 100")
def logs(model: Model = "pocket", lines: Annotated[int, typer.Option("--lines", "-n", min=1)] = 50, state: State = STATE) -> None:
    """Show the end of an engine's log."""
    from rheostat.policies.engine import Engines, resolve_name

    typer.echo(Engines(state / "engines").log(resolve_name(model), lines))
