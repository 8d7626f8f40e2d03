"""What a state folder holds of use to strategies, added to a configuration that names nothing in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rheostat.data.schema import Action
    from rheostat.policies.backend import VllmBackend
    from rheostat.serving.config import BackendConfig, Config
    from rheostat.serving.scoring import RewardKind

T = TypeVar("T")

PRM, LIKELY = "prm", "likely"
LEARNED_FOLDER = "verifier"
MEMORY_FOLDER = "memory"
ENCODERS_FOLDER = "encoders"


def equipped(config: Config, state: Path) -> Config:
    """The configuration with the rewards of running pocket engines, and the state folder's verifier and task memory.

    What the configuration names itself stays.
    """
    import msgspec

    from rheostat.policies.memory import EXAMPLES_FILE
    from rheostat.policies.weights import POCKET_READER, POCKET_REWARD
    from rheostat.serving.config import ToolsConfig
    from rheostat.serving.scoring import RewardConfig

    wanted: tuple[tuple[str, str, RewardKind], ...] = ((PRM, POCKET_REWARD, "process"), (LIKELY, POCKET_READER, "likelihood"))
    tools, named_already = config.tools, {each.name for each in config.reward}
    running = [
        RewardConfig(name=name, url=url, model=model, kind=kind)
        for name, model, kind in wanted
        if name not in named_already and (url := _engine_url(state, model)) is not None
    ]
    found = {
        "verifier": state / LEARNED_FOLDER if (state / LEARNED_FOLDER).is_dir() else "",
        "memory": state / MEMORY_FOLDER if (state / MEMORY_FOLDER / EXAMPLES_FILE).exists() else "",
    }
    named = {name: getattr(tools, name) or str(folder) for name, folder in found.items()}
    if tools.encoder_cache == ToolsConfig().encoder_cache:
        named["encoder_cache"] = str(state / ENCODERS_FOLDER)
    return msgspec.structs.replace(config, reward=(*config.reward, *running), tools=msgspec.structs.replace(tools, **named))


def equipped_for(actions: Sequence[Action], config: Config, state: Path, *, compares: bool, memory: Path | None, encoder: str) -> Config:
    """An equipped configuration with only the tools that some actions use: encoders and models take time to load.

    Args:
        actions: what will be run.
        config: what `equipped` gave.
        state: where the task memory is looked for that nothing names.
        compares: whether free texts will be voted on.
        memory: task memory to use instead.
        encoder: static, minilm, minilm-int8 or a folder.

    Raises:
        ActionError: an action cannot be built.
        DatasetError: an action wants examples, and there is no task memory.
    """
    from msgspec.structs import replace

    from rheostat.data.errors import DatasetError
    from rheostat.policies.memory import EXAMPLES_FILE
    from rheostat.policies.needs import needs
    from rheostat.serving.tools import LEARNED

    wanted = [needs(action) for action in actions]
    shows = any(each.memory for each in wanted)
    folder = memory or Path(config.tools.memory or state / MEMORY_FOLDER)
    if shows and not (folder / EXAMPLES_FILE).exists():
        raise DatasetError(f"no task memory at {folder}: build one with rheostat memory TASKS --out {folder}")
    tools = replace(
        config.tools,
        memory=str(folder) if shows else "",
        verifier=config.tools.verifier if any(LEARNED in each.scorers for each in wanted) else "",
        encoder=encoder if compares or shows else "",
    )
    return replace(config, tools=tools)


def servers_of(config: Config, environ: Mapping[str, str]) -> dict[str, list[VllmBackend]]:
    """The replicas of each model; whoever asks closes them; errors as `by_model`."""
    from rheostat.policies.backend import VllmBackend

    return by_model(config, environ, lambda each, key: VllmBackend(each.name, each.url, model=each.served_model or each.model, api_key=key))


def by_model(config: Config, environ: Mapping[str, str], make: Callable[[BackendConfig, str | None], T]) -> dict[str, list[T]]:
    """What `make` gives for each configured backend and its key, in lists by model.

    Raises:
        ConfigError: a variable named in the configuration is not set.
    """
    from rheostat.serving.config import secret

    made: dict[str, list[T]] = {}
    for each in config.backend:
        made.setdefault(each.model, []).append(make(each, secret(each.api_key_env, environ)))
    return made


def _engine_url(state: Path, name: str) -> str | None:
    from rheostat.policies.engine import Engines

    found = Engines(state / "engines").find(name)
    return None if found is None else found.url
