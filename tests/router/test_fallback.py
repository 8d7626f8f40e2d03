"""Deciding without a bundle."""

from __future__ import annotations

import pytest

from rheostat.data.errors import InfeasibleError
from rheostat.data.schema import Action, Guarantee
from rheostat.router.fallback import FallbackController
from tests.router.conftest import ACTIONS, ask

CHEAP, _, DEAR = ACTIONS


def test_fallback_takes_the_first_action_whose_model_is_up():
    fallback = FallbackController([Action.parse(DEAR), Action.parse(CHEAP)])
    assert fallback.decide(ask()).action == DEAR
    decision = fallback.decide(ask(models=frozenset({"small"})))
    assert (decision.action, decision.bundle, decision.degraded) == (CHEAP, "none", "no_bundle")
    assert fallback.explain(ask())["action"] == DEAR
    assert fallback.decide(ask(strict=True, forced=Action.parse(CHEAP))).action == CHEAP


def test_fallback_promises_nothing():
    fallback = FallbackController([Action.parse(CHEAP)])
    assert not fallback.decide(ask(target_accuracy=0.5)).feasible
    assert fallback.decide(ask(target_accuracy=0.5)).guarantee is None
    assert fallback.decide(ask(target_accuracy=0.5, confidence=0.9)).guarantee == Guarantee(target=0.5, confidence=0.9, holds=False)
    with pytest.raises(InfeasibleError, match="no bundle"):
        fallback.decide(ask(strict=True))
    with pytest.raises(InfeasibleError, match="is up"):
        fallback.decide(ask(models=frozenset({"large"})))
    with pytest.raises(InfeasibleError, match="no action"):
        FallbackController([])


def test_fallback_knows_nothing_beyond_its_action():
    fallback = FallbackController([Action.parse(CHEAP)])
    assert fallback.follow(ask(), fallback.decide(ask())) is None
