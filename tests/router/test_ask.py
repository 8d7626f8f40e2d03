"""What is asked about one request."""

from __future__ import annotations

import hashlib

from rheostat.data.schema import Constraints
from rheostat.router.ask import merged
from tests.router.conftest import ask


def test_switches_of_tier_and_request_combine_to_the_stricter():
    both = merged(Constraints(strict=True, explore=False, deadline_s=2.0), Constraints(high_stakes=True, deadline_s=1.0))
    assert both == Constraints(strict=True, explore=False, high_stakes=True, deadline_s=1.0)


def test_the_numbers_of_a_request_come_before_those_of_its_tier():
    asked = ask(target_accuracy=0.4, defaults=Constraints(target_accuracy=0.9, max_cost_usd=1.0))
    assert asked.constraints == Constraints(target_accuracy=0.4, max_cost_usd=1.0)
    assert ask(target_accuracy=0.4, defaults=Constraints(confidence=0.9)).constraints.confidence == 0.9


def test_every_model_is_up_unless_some_are_named():
    assert ask().is_up("small")
    assert not ask(models=frozenset({"large"})).is_up("small")


def test_any_text_has_a_hash_and_equal_texts_the_same():
    assert ask("a").prompt_sha256 == hashlib.sha256(b"a").hexdigest()
    assert ask("\ud800").prompt_sha256 == ask("\ud800").prompt_sha256 != ask("a").prompt_sha256
