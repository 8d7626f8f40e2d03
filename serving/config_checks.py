"""Whether the sections of a configuration agree with one another: names are unique, and what they refer to is there."""

from __future__ import annotations

from rheostat.data.errors import ActionError, ConfigError
from rheostat.data.schema import Action
from rheostat.serving.settings import PASSTHROUGH_TIER, Config

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def checked(config: Config) -> Config:
    """The same configuration, once its parts agree with one another.

    Raises:
        ConfigError: says which part does not fit, and with what.
    """
    if not config.backend:
        raise ConfigError("config: no [[backend]] is given: add one with name, url and model")
    _check_unique([backend.name for backend in config.backend], "backend.name")
    _check_unique([key.name for key in config.key], "key.name")
    _check_prices(config)
    _check_profiles(config)
    if config.router.default_tier not in config.tier:
        raise ConfigError(f"config: router.default_tier {config.router.default_tier!r} is no tier: known are {', '.join(config.tier)}")
    _check_fallback(config)
    _check_promises(config)
    _check_tiers_of_keys(config)
    _check_unique([key.sha256 for key in config.key], "key.sha256")
    _check_unique([reward.name for reward in config.reward], "reward.name")
    _check_judge(config)
    _check_admin(config)
    return config


def _check_unique(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"config: {what} {twice[0]!r} is given twice: names must be unique")


def _check_prices(config: Config) -> None:
    for backend in config.backend:
        if backend.price != config.prices[backend.model]:
            raise ConfigError(
                f"config: backend {backend.name!r} has another price than its replicas of model {backend.model!r}: one model, one price"
            )


def _check_profiles(config: Config) -> None:
    for backend in config.backend:
        others = [model for model in config.models if model != backend.model]
        if backend.profile_of and backend.profile_of not in others:
            known = ", ".join(others) or "none"
            raise ConfigError(f"config: backend {backend.name!r} is a profile of {backend.profile_of!r}: known models are {known}")


def _check_fallback(config: Config) -> None:
    if not config.router.fallback:
        return
    try:
        action = Action.parse(config.router.fallback)
    except ActionError as error:
        raise ConfigError(f"config: router.fallback: {error}") from error
    if action.model not in config.models:
        raise ConfigError(f"config: router.fallback names the model {action.model!r}: known are {', '.join(config.models)}")


def _check_promises(config: Config) -> None:
    for name, tier in config.tier.items():
        if tier.confidence is not None and tier.mean_cost_usd is not None:
            raise ConfigError(
                f"config: tier.{name} has confidence {tier.confidence:g} and mean_cost_usd {tier.mean_cost_usd:g}: a promised accuracy "
                "costs what it costs, keep one of the two"
            )


def _check_tiers_of_keys(config: Config) -> None:
    known = (*config.tier, PASSTHROUGH_TIER)
    for key in config.key:
        if unknown := [tier for tier in key.tiers if tier not in known]:
            raise ConfigError(f"config: key {key.name!r} names the tier {unknown[0]!r}: known are {', '.join(known)}")


def _check_judge(config: Config) -> None:
    judge = config.judge.model
    if judge and judge not in config.models:
        raise ConfigError(f"config: judge.model {judge!r} is no backend's model: known are {', '.join(config.models)}")


def _check_admin(config: Config) -> None:
    admin = config.admin
    if admin.port is not None and admin.host not in LOOPBACK and admin.token_env is None:
        raise ConfigError(f"config: admin.host {admin.host!r} is not loopback: set admin.token_env, or bind 127.0.0.1")
    if admin.port and admin.port == config.server.port:
        raise ConfigError(f"config: admin.port and server.port are both {admin.port}: give each its own")
