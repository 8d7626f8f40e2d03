"""What is run without a bundle."""

import pytest

from rheostat.data.errors import ConfigError
from rheostat.policies.base import Toolbox
from rheostat.serving.config import parse
from rheostat.serving.fallback import fallback_actions, runnable_fallback

TWO = "".join(f'[[backend]]\nname = "{model}"\nurl = "http://127.0.0.1:1"\nmodel = "{model}"\n' for model in ("one", "two"))


def test_without_a_named_action_each_model_has_one_chain_in_the_order_of_the_file():
    actions = fallback_actions(parse(TWO))
    assert [(action.model, action.strategy) for action in actions] == [("one", "cot"), ("two", "cot")]


def test_the_named_action_comes_first():
    assert str(fallback_actions(parse(TWO + '[router]\nfallback = "two/direct@64"'))[0]) == "two/direct@64"


def test_a_named_action_that_needs_what_is_not_here_is_refused():
    config = parse(TWO + '[router]\nfallback = "two/best_of_n(by=prm,n=4)@400"')
    with pytest.raises(ConfigError, match=r"router\.fallback: "):
        runnable_fallback(config, Toolbox())
