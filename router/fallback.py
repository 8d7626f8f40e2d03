"""One fixed action for every query: what decides while there is no bundle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rheostat.data.errors import InfeasibleError
from rheostat.data.schema import Action, Constraints, Decision, Guarantee, new_id
from rheostat.router.ask import Ask
from rheostat.router.ruling import FORCED

FALLBACK = "fallback"
NO_BUNDLE = "no_bundle"


class FallbackController:
    """Decides one fixed action, for when there is no bundle.

    Args:
        actions: in order of preference; the first whose model is up is taken.
    """

    def __init__(self, actions: Sequence[Action]) -> None:
        if not actions:
            raise InfeasibleError("the fallback has no action: name one in the configuration")
        self.actions = tuple(actions)

    def decide(self, ask: Ask) -> Decision:
        """The first action whose model is up, or the forced one. No load changes it: there is nothing cheaper to turn to.

        Raises:
            InfeasibleError: no model is up, or the request is strict, which nothing here can promise.
        """
        constraints = ask.constraints
        if constraints.strict and ask.forced is None:
            raise InfeasibleError("there is no bundle, so no accuracy can be promised: train one, or leave strict out")
        return Decision(
            decision_id=new_id("d"),
            query_id=ask.query.query_id,
            created_s=time.time(),
            action=str(ask.forced or self._first(ask)),
            propensity=1.0,
            tier=ask.tier,
            target_accuracy=constraints.target_accuracy,
            rule=FORCED if ask.forced else FALLBACK,
            bundle="none",
            feasible=ask.forced is not None or constraints.target_accuracy is None,
            guarantee=_guarantee(constraints),
            degraded=NO_BUNDLE,
            prompt_sha256=ask.prompt_sha256,
        )

    def explain(self, ask: Ask) -> dict[str, Any]:
        """The fixed action, and that there is no bundle.

        Raises:
            InfeasibleError: no model is up.
        """
        return {"action": str(self._first(ask)), "bundle": "none", "tier": ask.tier, "rule": FALLBACK, "degraded": NO_BUNDLE}

    def follow(self, ask: Ask, decision: Decision) -> None:
        """Nothing is known beyond the fixed action."""

    def _first(self, ask: Ask) -> Action:
        for action in self.actions:
            if ask.is_up(action.model):
                return action
        raise InfeasibleError(f"no model of {', '.join(map(str, self.actions))} is up: start one")


def _guarantee(constraints: Constraints) -> Guarantee | None:
    """Nothing is promised without a bundle, and it is said where a promise was asked for."""
    target, confidence = constraints.target_accuracy, constraints.confidence
    return None if target is None or confidence is None else Guarantee(target=target, confidence=confidence, holds=False)
