"""Controllers made of bundles under a configuration."""

import logging

import pytest

from rheostat.policies.base import Toolbox
from rheostat.router.budgets import NO_BUDGETS
from rheostat.router.bundle import Bundle
from rheostat.serving.config import parse
from rheostat.serving.controllers import Controllers
from tests.serving.bundles import write_bundle

BACKEND = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'


def warned(folder, caplog, tier, backend=BACKEND):
    """What is said when a controller is made of a bundle with 200 fresh queries."""
    bundle = Bundle.load(write_bundle(folder / "bundle", version="one", queries=400))
    with caplog.at_level(logging.WARNING):
        Controllers(parse(f"{backend}[tier.balanced]\n{tier}"), toolbox=Toolbox(), budgets=NO_BUDGETS).make(bundle)
    return caplog.messages


def test_a_tier_that_cannot_be_promised_is_said_when_its_bundle_is_loaded(tmp_path, caplog):
    (said,) = warned(tmp_path, caplog, "target_accuracy = 0.91\nconfidence = 0.9\n")
    assert said.startswith("tier balanced is not promised: bundle one: 200 held-out queries promise at most 0.8")


@pytest.mark.parametrize("tier", ["target_accuracy = 0.91\n", "target_accuracy = 0.8\nconfidence = 0.9\n"])
def test_nothing_is_said_where_a_promise_holds_or_none_was_made(tmp_path, caplog, tier):
    assert warned(tmp_path, caplog, tier) == []


def test_a_bundle_without_a_model_of_this_installation_promises_nothing(tmp_path, caplog):
    tier = "target_accuracy = 0.91\nconfidence = 0.9\n"
    assert warned(tmp_path, caplog, tier, backend=BACKEND.replace('"pocket"', '"other"')) == []
