"""Where bundles come from under a configuration, and the controllers made of them."""

from __future__ import annotations

import logging
from pathlib import Path

from rheostat.data.errors import ActionError, BundleError
from rheostat.policies.base import Toolbox
from rheostat.policies.needs import check_needs
from rheostat.router.budgets import Budgets
from rheostat.router.bundle import Bundle
from rheostat.router.controller import Controller
from rheostat.serving.config import Config, secret
from rheostat.serving.fleet import Environ
from rheostat.serving.registry import MlflowSource
from rheostat.serving.reload import FolderSource, Source

log = logging.getLogger(__name__)


def build_source(config: Config, *, environ: Environ) -> Source | None:
    """Where bundles come from: the folder in the config, else MLflow, else nowhere."""
    if config.router.bundle:
        return FolderSource(Path(config.router.bundle))
    if not config.mlflow.tracking_uri:
        return None
    token = secret(config.mlflow.token_env, environ)
    return MlflowSource(config.mlflow.tracking_uri, model=config.mlflow.model, alias=config.mlflow.alias, token=token)


class Controllers:
    """Makes controllers of bundles whose actions can be run here.

    Args:
        config: prices, exploration, and the models served.
        toolbox: what strategies may use besides models.
        budgets: what tiers have left to spend; all controllers share it.
    """

    def __init__(self, config: Config, *, toolbox: Toolbox, budgets: Budgets) -> None:
        self._config = config
        self._toolbox = toolbox
        self._budgets = budgets

    def apply(self, config: Config) -> None:
        """Make the next controller under a changed configuration."""
        self._config = config

    def make(self, bundle: Bundle) -> Controller:
        """A controller of a bundle.

        Raises:
            BundleError: an action of a model served here asks for what is not here.
        """
        self._check(bundle)
        explore = self._config.explore
        controller = Controller(
            bundle,
            prices=self._config.prices,
            epsilon=explore.epsilon,
            seed=explore.seed,
            sequential=self._config.router.sequential,
            budgets=self._budgets,
        )
        self._prepare_promises(controller)
        return controller

    def _prepare_promises(self, controller: Controller) -> None:
        """Test what the tiers promise before their first request waits for it, and say which cannot be kept."""
        for name, tier in self._config.tier.items():
            path = None if tier.confidence is None else controller.promised(tier.confidence, self._config.models)
            if path is not None and not path.index_for(tier.target_accuracy)[1]:
                log.warning("tier %s is not promised: bundle %s: %s", name, controller.bundle.version, path.why_not(tier.target_accuracy))

    def _check(self, bundle: Bundle) -> None:
        models = self._config.models
        try:
            for action in bundle.actions:
                if action.model in models:
                    check_needs(action, self._toolbox, models)
        except ActionError as error:
            raise BundleError(f"bundle {bundle.version} does not fit this configuration: {error}") from error
