"""`rheostat memory`: build the solved examples that few-shot prompts are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rheostat.commands.common import STATE, Encoder, Json, Seed, State, progress, show
from rheostat.equipment import ENCODERS_FOLDER, MEMORY_FOLDER


def memory(
    source: Annotated[str, typer.Argument(help="pocket, pocket:FAMILY,..., reasoning_gym:NAME, a .jsonl of tasks, or a Parquet log.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; memory in the state folder when left out.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many examples.")] = 500,
    encoder: Encoder = "static",
    state: State = STATE,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Build a task memory: solved questions, found again by their meaning, for the strategy few_shot.

    Example: rheostat memory pocket --n 500
    """
    from rheostat.policies.memory import TaskMemory
    from rheostat.router.encoder import load_encoder
    from rheostat.training.memory import solved_examples

    folder = out or state / MEMORY_FOLDER
    with progress("memory") as advance:
        advance("solve", 0.0)
        examples = solved_examples(source, n=n, seed=seed)
        advance("load the encoder", 0.2)
        weights = load_encoder(encoder, cache_folder=state / ENCODERS_FOLDER)
        advance("embed", 0.6)
        TaskMemory(examples, weights.encode, encoder_id=weights.encoder_id).save(folder)
    value = {"folder": str(folder), "examples": len(examples), "encoder_id": weights.encoder_id, "first": examples[0].question}
    show("task memory", list(value), [list(value.values())], json=json, value=value)
