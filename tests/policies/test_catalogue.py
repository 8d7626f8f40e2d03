import pytest

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action
from rheostat.policies.catalogue import STRATEGIES, build, default_actions, is_single_call
from rheostat.policies.stopping import Beta


def test_every_strategy_is_registered_under_its_own_name():
    assert all(strategy.name == name for name, strategy in STRATEGIES.items())


def test_every_default_action_is_built_from_its_spelling():
    for action in default_actions(["pocket", "smol"], stops=["", "beta(c=0.95)|curtail"]):
        again = Action.parse(str(action))
        assert again == action
        assert build(again).name == action.strategy


def test_default_actions_are_distinct_and_of_every_model():
    actions = default_actions(["a", "b"])
    assert len(set(actions)) == len(actions)
    assert {action.model for action in actions} == {"a", "b"}


def test_arguments_reach_the_strategy():
    built = build(Action.parse("m/self_consistency(k=8,temperature=1,stop=beta(c=0.9),waves=2+4)@512"))
    assert (built.k, built.temperature, built.rule, built.waves) == (8, 1, Beta(0.9), (2, 4))


def test_a_number_where_a_text_is_wanted_is_read_as_text():
    assert build(Action.parse("m/best_of_n(n=4,waves=2)@512")).waves == (2,)


def test_only_one_call_actions_may_be_streamed_through():
    assert is_single_call(Action.parse("m/direct@64"))
    assert is_single_call(Action.parse("m/cot@64"))
    assert not is_single_call(Action.parse("m/self_consistency(k=2)@64"))
    assert not is_single_call(Action.parse("m/unheard_of@64"))


@pytest.mark.parametrize(
    ("spelling", "says"),
    [
        ("m/magic@64", "known are direct, cot, self_consistency, best_of_n"),
        ("m/direct(k=3)@64", r"cannot take k=3: write direct\(\)"),
        ("m/self_consistency@64", r"lacks k: write self_consistency\(k: int"),
        ("m/self_consistency(k=2.5)@64", "cannot take k=2.5"),
        ("m/self_consistency(k=four)@64", "cannot take k=four"),
        ("m/self_consistency(k=0)@64", "k is from 1 to 256"),
        ("m/self_consistency(k=257)@64", "k is from 1 to 256"),
        ("m/self_consistency(k=4,temperature=0)@64", "out of range"),
        ("m/self_consistency(k=4,temperature=9)@64", "out of range"),
        ("m/self_consistency(k=4,stop=magic)@64", "unknown stop rule"),
        ("m/self_consistency(k=4,waves=2+x)@64", "write sizes joined by"),
        ("m/self_consistency(k=4,waves=0)@64", "write sizes joined by"),
        ("m/best_of_n(n=4,by=luck)@64", "known are logprob, verifier"),
    ],
)
def test_what_cannot_be_built_says_what_can(spelling, says):
    with pytest.raises(ActionError, match=says):
        build(Action.parse(spelling))
