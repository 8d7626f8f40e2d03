"""What strategies are given besides models: scorers by name, solved examples, an embedding of texts.

Made once from the configuration. Encoders and learned models are loaded only where the configuration names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rheostat.data.errors import ConfigError
from rheostat.policies.base import Memory, Scorer, Toolbox
from rheostat.serving.config import Config, ToolsConfig, secret
from rheostat.serving.scoring import open_scorers

if TYPE_CHECKING:
    from rheostat.router.base import Encoder

LEARNED = "orm"
DEFAULT_ENCODER = "static"


def open_toolbox(config: Config, *, environ: Mapping[str, str], stack: AsyncExitStack) -> Toolbox:
    """Scorers of `[[reward]]`, `[judge]` and `[tools]`, and the task memory and embedding of `[tools]`.

    Args:
        config: what the operator configured; a `[[reward]]` called `orm` goes before the learned verifier.
        environ: where secrets are.
        stack: closes connections.

    Raises:
        ConfigError: a folder does not hold what it should, or weights are not on this machine.
        BundleError: the learned verifier is not as it was written.
        DatasetError: the task memory is not as it was written.
    """
    keys = {each.name: key for each in config.reward if (key := secret(each.api_key_env, environ)) is not None}
    scorers = open_scorers(config.reward, config.judge, keys=keys, stack=stack)
    tools = config.tools
    if tools.verifier and LEARNED not in scorers:
        scorers[LEARNED] = _learned(tools)
    if not (tools.encoder or tools.memory):
        return Toolbox(scorers=scorers)
    encoder = _encoder(tools.encoder or DEFAULT_ENCODER, tools)
    memory = _memory(Path(tools.memory), encoder) if tools.memory else None
    return Toolbox(scorers=scorers, memory=memory, embed=encoder.encode)


def _memory(folder: Path, encoder: Encoder) -> Memory:
    from rheostat.policies.memory import EXAMPLES_FILE, TaskMemory

    if not (folder / EXAMPLES_FILE).exists():
        raise ConfigError(f"no task memory at {folder}: build one with rheostat memory TASKS --out {folder}")
    return TaskMemory.load(folder, encoder.encode, encoder_id=encoder.encoder_id)


def _learned(tools: ToolsConfig) -> Scorer:
    from rheostat.policies.scorers.learned import LearnedReward, RewardModel

    model = RewardModel.load(Path(tools.verifier))
    encoder = _encoder(model.encoder_id.partition(":")[0], tools)
    if encoder.encoder_id != model.encoder_id:
        raise ConfigError(f"the verifier was trained with the encoder {model.encoder_id}, here is {encoder.encoder_id}: train it again")
    return LearnedReward(model, encoder.encode)


def _encoder(name: str, tools: ToolsConfig) -> Encoder:
    from rheostat.router.encoder import load_encoder

    return load_encoder(name, cache_folder=Path(tools.encoder_cache))
