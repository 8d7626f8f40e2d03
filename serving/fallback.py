"""What is run where no bundle decides: the action the operator named, or one chain of thought."""

from __future__ import annotations

from rheostat.data.errors import ActionError, ConfigError
from rheostat.data.schema import Action
from rheostat.policies.base import Toolbox
from rheostat.policies.catalogue import default_actions
from rheostat.policies.needs import check_needs
from rheostat.serving.config import Config

FALLBACK_STRATEGY = "cot"


def fallback_actions(config: Config) -> list[Action]:
    """The action named in the config first, then one chain of thought per model in the order of the file."""
    named = [Action.parse(config.router.fallback)] if config.router.fallback else []
    return [*named, *(action for action in default_actions(config.models) if action.strategy == FALLBACK_STRATEGY)]


def runnable_fallback(config: Config, toolbox: Toolbox) -> list[Action]:
    """The fallback actions.

    Raises:
        ConfigError: the one named in the config asks for what is not here.
    """
    actions = fallback_actions(config)
    try:
        for action in actions:
            check_needs(action, toolbox, config.models)
    except ActionError as error:
        raise ConfigError(f"config: router.fallback: {error}") from error
    return actions
