"""What an action asks for besides its own model: scorers by name, other models, solved examples.

Known from its spelling, so that an action which cannot be run here is refused before anything is spent on it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action
from rheostat.policies.base import Toolbox
from rheostat.policies.cascade import CONFIDENCE, Cascade
from rheostat.policies.catalogue import build
from rheostat.policies.direct import FewShot
from rheostat.policies.mcts import AGREEMENT, Mcts
from rheostat.policies.rounds import CRITIC, Refine, Verify
from rheostat.policies.scoring import LOGPROB

SELF = "self"
_OWN_MEASURE = {Mcts: AGREEMENT, Refine: CRITIC, Verify: CRITIC, Cascade: CONFIDENCE}


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What must be there for an action to run; its own model is among `models`."""

    models: frozenset[str] = frozenset()
    scorers: frozenset[str] = frozenset()
    memory: bool = False


def needs(action: Action) -> Needs:
    """What an action asks for, stages of a cascade included.

    Raises:
        ActionError: it cannot be built.
    """
    return _of(build(action), action.model)


def check_needs(action: Action, toolbox: Toolbox, models: Collection[str], *, references: bool = False) -> None:
    """Refuse an action that asks for what is not here.

    Args:
        action: what is to be run.
        toolbox: what strategies will be given.
        models: names of the models that backends serve.
        references: whether queries bring their own verifier, for `by=verifier`.

    Raises:
        ActionError: names what is missing, what there is, and what to do.
    """
    wanted = needs(action)
    scorers = {*toolbox.scorers, *(["verifier"] if references else [])}
    if unknown := sorted(wanted.scorers - scorers):
        known = ", ".join(sorted(scorers)) or "none"
        raise ActionError(f"{action} asks for the scorer {unknown[0]!r}, here are: {known}; configure a [[reward]] or [judge] for it")
    if absent := sorted(wanted.models - set(models)):
        raise ActionError(f"{action} asks for the model {absent[0]!r}, here are: {', '.join(sorted(models)) or 'none'}")
    if wanted.memory and toolbox.memory is None:
        raise ActionError(f"{action} has no task memory to look into: build one with rheostat memory, and name it as tools.memory")


def _of(strategy: Any, model: str) -> Needs:
    own = _own(strategy, model)
    stages = [_of(stage.strategy, stage.model or model) for stage in getattr(strategy, "stages", ())]
    return Needs(
        models=own.models.union(*(stage.models for stage in stages)),
        scorers=own.scorers.union(*(stage.scorers for stage in stages)),
        memory=own.memory or any(stage.memory for stage in stages),
    )


def _own(strategy: Any, model: str) -> Needs:
    """What a strategy itself asks for."""
    by = getattr(strategy, "by", LOGPROB)
    built_in = (LOGPROB, SELF, _OWN_MEASURE.get(type(strategy)))
    checker = getattr(strategy, "checker", "")
    models = {model, *getattr(strategy, "models", ()), *([checker] if checker else [])}
    scorers = frozenset() if by in built_in else frozenset({by})
    return Needs(models=frozenset(models), scorers=scorers, memory=isinstance(strategy, FewShot))
