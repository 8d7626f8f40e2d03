"""Where an engine's weights come from: the pocket models shipped here, `smol` from its package, or the user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from rheostat.data.errors import EngineError

POCKET_MODELS = ("pocket", "pocket-large")
POCKET_REWARD = "pocket-prm"
POCKET_READER = "pocket-large"  # the one that finds right chains likelier than wrong ones, whoever wrote them
HERE = Path(__file__).resolve().parent
# Without a parser an engine refuses requests with tools; of the models here none was trained for another form of calls.
TOOL_CALLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


class Weights(NamedTuple):
    """A model folder (or a name vLLM resolves), the name it is served under, and what its size and kind demand."""

    name: str
    path: str | Path
    dtype: str | None = None
    context_tokens: int | None = None
    arguments: tuple[str, ...] = ()


def resolve_weights(model: str) -> Weights:
    """The weights of `pocket`, `pocket-large`, `pocket-prm` or `smol`; anything else is left to vLLM to resolve.

    Raises:
        EngineError: shipped weights are missing, or `smol` cannot be made (see `rheostat.policies.weights.smol`).
    """
    if model in (*POCKET_MODELS, POCKET_REWARD):
        path = HERE / model
        if not (path / "model.safetensors").exists():
            raise EngineError(f"the weights of {model!r} are not at {path}: reinstall rheostat, or train them with examples/pocket")
        # float32: at these sizes the CPU gains nothing from bfloat16, and sampling is exact.
        return Weights(model, path, "float32", 512, _reward_arguments(path) if model == POCKET_REWARD else TOOL_CALLS)
    if model == "smol":
        from rheostat.policies.weights.smol import smol_folder

        return Weights("smol", smol_folder(), None, 2048, TOOL_CALLS)
    return Weights(Path(model).name or model, model)


def _reward_arguments(folder: Path) -> tuple[str, ...]:
    """A process reward model gives the classes behind steps only: at the mark it was trained with, its end of sequence."""
    mark = json.loads((folder / "config.json").read_bytes())["eos_token_id"]
    return ("--runner", "pooling", "--pooler-config", json.dumps({"tok_pooling_type": "STEP", "step_tag_id": mark}))
