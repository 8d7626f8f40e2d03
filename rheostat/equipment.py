"""What a state folder holds of use to strategies, added to a configuration that names nothing in its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rheostat.serving.config import Config

PRM = "prm"
LEARNED_FOLDER = "verifier"
MEMORY_FOLDER = "memory"
ENCODERS_FOLDER = "encoders"


def equipped(config: Config, state: Path) -> Config:
    """The configuration with `prm` where an engine `pocket-prm` runs, and the state folder's verifier and task memory.

    What the configuration names itself stays.
    """
    import msgspec

    from rheostat.policies.memory import EXAMPLES_FILE
    from rheostat.policies.weights import POCKET_REWARD
    from rheostat.serving.config import ToolsConfig
    from rheostat.serving.scoring import RewardConfig

    rewards, tools = config.reward, config.tools
    url = _engine_url(state, POCKET_REWARD)
    if url is not None and PRM not in {each.name for each in rewards}:
        rewards = (*rewards, RewardConfig(name=PRM, url=url, model=POCKET_REWARD))
    found = {
        "verifier": state / LEARNED_FOLDER if (state / LEARNED_FOLDER).is_dir() else "",
        "memory": state / MEMORY_FOLDER if (state / MEMORY_FOLDER / EXAMPLES_FILE).exists() else "",
    }
    named = {name: getattr(tools, name) or str(folder) for name, folder in found.items()}
    if tools.encoder_cache == ToolsConfig().encoder_cache:
        named["encoder_cache"] = str(state / ENCODERS_FOLDER)
    return msgspec.structs.replace(config, reward=rewards, tools=msgspec.structs.replace(tools, **named))


def _engine_url(state: Path, name: str) -> str | None:
    from rheostat.policies.engine import Engines

    found = Engines(state / "engines").find(name)
    return None if found is None else found.url
