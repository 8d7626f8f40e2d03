import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


arguments = {
    "direct": {},
    "cot": {"style": st.sampled_from(["plain", "short", "long"]), "think": st.integers(1, 999), "waits": st.integers(0, 4)},
    "few_shot": {"k": st.integers(1, 64)},
    "self_consistency": {"k": st.integers(1, 256), "stop": st.sampled_from(["lead(2)", "beta(0.95)|fixed(8)"])},
    "weighted_vote": {"k": st.integers(1, 256), "by": st.sampled_from(["logprob", "orm"]), "models": st.sampled_from(["a+b", "a"])},
    "best_of_n": {"n": st.integers(1, 256), "by": st.sampled_from(["verifier", "judge"]), "enough": st.floats(0.01, 1.0)},
    "refine": {"rounds": st.integers(1, 16), "by": st.sampled_from(["critic", "prm"])},
    "verify": {"checker": st.just("big/model"), "rounds": st.integers(1, 16)},
    "token_beam": {"width": st.integers(1, 10)},
    "beam": {"width": st.integers(1, 16), "mode": st.sampled_from(["beam", "dvts", "rebase"]), "agg": st.sampled_from(["last", "min"])},
    "mcts": {"sims": st.integers(1, 256), "c": st.floats(0.0, 9.0), "by": st.sampled_from(["agreement", "prm"])},
    "cascade": {"stages": st.sampled_from(["direct@9>cot", "cot>q/big/mcts(sims=4,c=0.5)>self_consistency(k=3,stop=lead(2))@99"])},
    "compose": {"n": st.integers(1, 64), "rounds": st.integers(1, 16), "by": st.sampled_from(["self", "orm"])},
}
spelled = st.sampled_from(sorted(arguments)).flatmap(
    lambda name: st.fixed_dictionaries({}, optional=arguments[name]).map(lambda given: (name, {**REQUIRED.get(name, {}), **given}))
)
REQUIRED = {"self_consistency": {"k": 4}, "weighted_vote": {"k": 4}, "best_of_n": {"n": 4}, "verify": {"checker": "b"}}
REQUIRED |= {"cascade": {"stages": "direct>cot"}, "cot": {"think": 9}}


def test_the_properties_below_cover_the_whole_catalogue():
    assert set(arguments) == set(STRATEGIES)


def shape_of(strategy):
    """All that a built strategy holds, as comparable values."""
    held = {name: shape_of(value) if hasattr(value, "run") else value for name, value in vars(strategy).items()}
    if "stages" in held:
        held["stages"] = [(stage.model, stage.max_tokens, type(stage.strategy), shape_of(stage.strategy)) for stage in held["stages"]]
    return held


@given(spelled, st.integers(1, 10**6))
def test_every_strategy_is_rebuilt_from_its_spelling(named, cap):
    name, given_arguments = named
    action = Action("org/model", name, cap, tuple(sorted(given_arguments.items())))
    again = Action.parse(str(action))
    assert str(again) == str(action)
    first, second = build(action), build(again)
    assert type(first) is type(second) is STRATEGIES[name]
    assert shape_of(first) == shape_of(second)
    for argument, value in given_arguments.items():
        assert again.arguments[argument] == value


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
    assert not is_single_call(Action.parse("m/cot(think=20)@64"))
    assert not is_single_call(Action.parse("m/self_consistency(k=2)@64"))
    assert not is_single_call(Action.parse("m/unheard_of@64"))


@pytest.mark.parametrize(
    ("spelling", "says"),
    [
        ("m/magic@64", "known are direct, cot"),
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
        ("m/best_of_n(n=4,by=a-b)@64", "the name of a scorer"),
        ("m/refine(by=logprob)@64", "no measure it can use"),
        ("m/best_of_n(n=4,enough=0)@64", "enough is above 0"),
        ("m/cot(waits=2)@64", "no thinking to extend"),
        ("m/cot(style=loud)@64", "known are plain, short, long"),
        ("m/verify@64", "lacks checker"),
        ("m/verify(checker=a+b)@64", "names no model"),
        ("m/beam(width=64,expand=64)@64", "at most 256"),
        ("m/beam(mode=wide)@64", "known are beam, dvts, rebase"),
        ("m/mcts(c=-1)@64", "c is from 0"),
        ("m/token_beam(width=11)@64", "width is from 1 to 10"),
        ("m/cascade(stages=cot)@64", "2 to 8 actions"),
        ("m/cascade(stages=cot>magic)@64", "unknown strategy 'magic'"),
        ("m/cascade(stages=cot>cot(build=3))@64", "cannot take build"),
        ("m/cascade(stages=cot>cot,build=3)@64", "cannot take build"),
        ("m/cascade(stages=direct>cot>cot,at=0.5+0.4+0.3)@64", "3 thresholds for 2"),
        ("m/cascade(stages=direct>cot,at=high)@64", "write thresholds"),
    ],
)
def test_what_cannot_be_built_says_what_can(spelling, says):
    with pytest.raises(ActionError, match=says):
        build(Action.parse(spelling))


def test_the_manual_names_every_strategy_with_all_its_arguments():
    manual = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
    rows = {cells[1].strip(" `"): cells[2] for line in manual.splitlines() if len(cells := line.split("|")) == 5}
    for name, strategy in STRATEGIES.items():
        known = inspect.signature(strategy).parameters.values()
        taken = [each.name for each in known if each.kind is each.POSITIONAL_OR_KEYWORD]
        assert [part.strip(" `") for part in rows[name].split(",") if part.strip()] == taken
