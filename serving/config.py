"""The sidecar's configuration: one TOML file, checked once, into one frozen struct. Reads no environment variable.

What may be set is in `settings`, what has to fit together in `config_checks`. Secrets never stand in the file: a field
ending in `_env` names an environment variable, and `secret` resolves it against a mapping that the caller passes in.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rheostat.data.errors import ConfigError
from rheostat.serving.config_checks import LOOPBACK, checked
from rheostat.serving.misfit import Misfit, misfit
from rheostat.serving.settings import (
    PASSTHROUGH_TIER,
    BackendConfig,
    Config,
    KeyConfig,
    LimitsConfig,
    RouterConfig,
    SessionsConfig,
    StoreConfig,
    StorePrompts,
    TierConfig,
    ToolsConfig,
)

__all__ = [
    "LOOPBACK",
    "PASSTHROUGH_TIER",
    "TIERS",
    "BackendConfig",
    "Config",
    "KeyConfig",
    "LimitsConfig",
    "RouterConfig",
    "SessionsConfig",
    "StoreConfig",
    "StorePrompts",
    "TierConfig",
    "ToolsConfig",
    "checked",
    "load",
    "local",
    "parse",
    "read_text",
    "secret",
]

TIERS = {
    "quick": TierConfig(target_accuracy=0.70, deadline_ms=10_000),
    "balanced": TierConfig(target_accuracy=0.85, deadline_ms=30_000),
    "deep": TierConfig(target_accuracy=0.95, deadline_ms=120_000),
}


def load(path: Path) -> Config:
    """The configuration in a TOML file.

    Raises:
        ConfigError: no such file, no TOML, an unknown key (the known ones are listed), or a value out of range.
    """
    return parse(read_text(path), called=str(path))


def read_text(path: Path) -> str:
    """What a configuration file says.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors put a mark before the first line
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file {path}: {error}") from error


def parse(text: str, *, called: str = "the config") -> Config:
    """The configuration in a TOML text; errors as `load`."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{called} is no TOML: {error}: correct that line") from error
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"config: {_told(misfit(raw, Config, thing='table')) or error}") from error
    return checked(config if config.tier else msgspec.structs.replace(config, tier=TIERS))


def _told(found: Misfit | None) -> str:
    return "" if found is None else f"{'unknown key ' if found.is_unknown else ''}{found.place}: {found.wrong}"


def local(*, pocket_port: int, pocket_large_port: int, **fields: Any) -> Config:
    """The built-in configuration for the two pocket engines on this machine; `fields` replace sections of it."""
    backends = (
        BackendConfig(name="pocket-1", url=f"http://127.0.0.1:{pocket_port}", model="pocket", usd_per_1m_output=1.0),
        BackendConfig(name="pocket-large-1", url=f"http://127.0.0.1:{pocket_large_port}", model="pocket-large", usd_per_1m_output=5.0),
    )
    defaults: dict[str, Any] = {"backend": backends, "tier": TIERS, "store": StoreConfig(store_prompts="full")}
    return checked(Config(**{**defaults, **fields}))


def secret(name: str | None, environ: Mapping[str, str]) -> str | None:
    """The value of the environment variable `name`, or None where no name is configured.

    Raises:
        ConfigError: the variable is not set.
    """
    if name is None:
        return None
    if not environ.get(name):
        raise ConfigError(f"the environment variable {name} named in the config is not set: set it, or drop the setting")
    return environ[name]
