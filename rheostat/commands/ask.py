"""`rheostat ask`: one question by one strategy on running engines, with the evidence as it grows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rheostat.commands.common import CONFIG, STATE, ConfigFile, Json, Seed, State, ToolEncoder, show, write_json

if TYPE_CHECKING:
    from rheostat.data.schema import Action, Query
    from rheostat.policies.run import OnEvidence, Result
    from rheostat.serving.config import Config

Strategy = Annotated[str, typer.Option("--strategy", "-s", help="As in cot, best_of_n(n=8) or pocket/mcts(sims=16)@2048.")]
Tokens = Annotated[int, typer.Option(min=1, help="Cap in generated tokens, where the strategy names none with @.")]


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    strategy: Strategy = "cot",
    tokens: Tokens = 1024,
    show_evidence: Annotated[bool, typer.Option("--show", help="Show samples, votes and search trees as they grow.")] = False,
    deadline: Annotated[float | None, typer.Option(help="Seconds after which the answer is made of what has come.")] = None,
    memory: Annotated[Path | None, typer.Option(help="Task memory of few_shot; the state folder's when left out.")] = None,
    encoder: ToolEncoder = "static",
    config: ConfigFile = CONFIG,
    state: State = STATE,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Ask one question by one strategy on running engines; show what came of it and what it cost.

    Example: rheostat ask "What is 27 + 48?" --strategy "pocket/self_consistency(k=8)" --show
    """
    import asyncio

    from rheostat.commands.ask_view import Watching
    from rheostat.commands.common import load_config
    from rheostat.data.answers import infer_kind
    from rheostat.data.schema import Query
    from rheostat.equipment import equipped, equipped_for
    from rheostat.policies.catalogue import is_single_call

    if not question.strip():
        raise typer.BadParameter("there is nothing in it: write what to ask", param_hint="QUESTION")
    servers = load_config(config, state)
    action = complete(strategy, servers.models, tokens)
    query = Query.of_text(question, kind=infer_kind(question))
    compares = query.kind == "text" and not is_single_call(action)
    servers = equipped_for([action], equipped(servers, state), state, compares=compares, memory=memory, encoder=encoder)
    with Watching(str(action), shown=show_evidence) as watching:
        result = asyncio.run(_run(action, query, servers, seed=seed, deadline_s=deadline, on_evidence=watching.see))
    if json is not None:
        write_json(json, _as_value(question, action, result))
        if str(json) == "-":
            return
    typer.echo(result.text)
    show(str(action), ["", ""], _rows(result))


def complete(strategy: str, models: tuple[str, ...], tokens: int) -> Action:
    """The action of a spelling whose model or cap may be missing: the first model there is, and `tokens`.

    Raises:
        ActionError: it cannot be read or built.
    """
    import re

    from rheostat.data.schema import Action
    from rheostat.policies.catalogue import build

    spelling = strategy.strip()
    if "/" not in spelling.partition("(")[0]:
        spelling = f"{models[0]}/{spelling}"
    if re.search(r"@[0-9]+\Z", spelling) is None:
        spelling = f"{spelling}@{tokens}"
    action = Action.parse(spelling)
    build(action)
    return action


async def _run(
    action: Action,
    query: Query,
    servers: Config,
    *,
    seed: int,
    deadline_s: float | None,
    on_evidence: OnEvidence,
) -> Result:
    import os
    from contextlib import AsyncExitStack

    from rheostat.equipment import servers_of
    from rheostat.policies.needs import check_needs
    from rheostat.policies.run import run_action
    from rheostat.serving.tools import open_toolbox

    async with AsyncExitStack() as stack:
        backends = {model: await stack.enter_async_context(first) for model, (first, *_) in servers_of(servers, os.environ).items()}
        toolbox = open_toolbox(servers, environ=os.environ, stack=stack)
        check_needs(action, toolbox, backends)
        return await run_action(
            action, query, backends, kind=query.kind or "text", seed=seed, deadline_s=deadline_s, on_evidence=on_evidence, toolbox=toolbox
        )


def _rows(result: Result) -> list[list[object]]:
    ledger = result.ledger
    spent = f"{ledger.generated} = {ledger.completion} answers + {ledger.verifier} checks + {ledger.wasted} wasted"
    estimated = ", in part estimated" if any(attempt.estimated for attempt in result.attempts) else ""
    return [
        ["answer", "none that can be read" if result.answer is None else result.answer],
        ["because", result.evidence.why],
        ["stopped", result.stop_reason],
        ["generated tokens", spent + estimated],
        ["prompt tokens", f"{ledger.prompt}, {ledger.cached_prompt} of them cached"],
        ["calls", ledger.calls],
        ["seconds", f"{result.latency_s:.2f}"],
    ]


def _as_value(question: str, action: Action, result: Result) -> dict[str, object]:
    return {
        "question": question,
        "action": str(action),
        "answer": result.answer,
        "text": result.text,
        "why": result.evidence.why,
        "stop_reason": result.stop_reason,
        "ledger": result.ledger,
        "generated_tokens": result.ledger.generated,
        "latency_s": result.latency_s,
        "chosen": result.evidence.chosen,
        "candidates": result.evidence.candidates,
        "steps": result.evidence.steps,
        "attempts": result.attempts,
    }
