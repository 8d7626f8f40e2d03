"""What an action asks for is known from its spelling, and refused beforehand where it is not there."""

from __future__ import annotations

import pytest

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action
from rheostat.policies.base import Toolbox
from rheostat.policies.needs import Needs, check_needs, needs
from tests.policies.make import toolbox

SELF_SUFFICIENT = [
    "direct", "cot", "self_consistency(k=4)", "best_of_n(n=4)", "best_of_n(n=4,by=self)", "refine(rounds=2)", "mcts(sims=4)",
    "token_beam(width=2)", "cascade(stages=direct@32>cot)", "compose(n=2)", "beam(width=2,expand=2,depth=2,by=logprob)",
]  # fmt: skip


def action(spelling: str) -> Action:
    return Action.parse(f"a/{spelling}@500")


@pytest.mark.parametrize("spelling", SELF_SUFFICIENT)
def test_an_action_that_judges_itself_needs_its_model_only(spelling: str) -> None:
    assert needs(action(spelling)) == Needs(models=frozenset({"a"}))
    check_needs(action(spelling), Toolbox(), ["a"])


@pytest.mark.parametrize(
    ("spelling", "wanted"),
    [
        ("best_of_n(n=4,by=prm)", Needs(models=frozenset("a"), scorers=frozenset({"prm"}))),
        ("beam(width=2,expand=2,depth=2)", Needs(models=frozenset("a"), scorers=frozenset({"prm"}))),
        ("best_of_n(n=4,by=agreement)", Needs(models=frozenset("a"), scorers=frozenset({"agreement"}))),
        ("few_shot(k=2)", Needs(models=frozenset("a"), memory=True)),
        ("weighted_vote(k=4,models=a+b)", Needs(models=frozenset("ab"))),
        ("verify(checker=b)", Needs(models=frozenset("ab"))),
        ("compose(n=2,checker=b)", Needs(models=frozenset("ab"))),
        (
            "cascade(stages=few_shot(k=2)@50>b/best_of_n(n=2,by=orm),by=judge)",
            Needs(models=frozenset("ab"), scorers=frozenset({"orm", "judge"}), memory=True),
        ),
    ],
)
def test_scorers_models_and_examples_are_found_wherever_they_are_spelled(spelling: str, wanted: Needs) -> None:
    assert needs(action(spelling)) == wanted


@pytest.mark.parametrize(
    ("spelling", "words"),
    [
        ("best_of_n(n=4,by=orm)", "the scorer 'orm', here are: prm"),
        ("best_of_n(n=4,by=verifier)", "the scorer 'verifier'"),
        ("verify(checker=z)", "the model 'z', here are: a"),
        ("magic", "unknown strategy"),
    ],
)
def test_what_is_missing_is_named_with_what_there_is(spelling: str, words: str) -> None:
    with pytest.raises(ActionError, match=words):
        check_needs(action(spelling), toolbox(), ["a"])


def test_examples_are_missing_without_a_task_memory() -> None:
    check_needs(action("few_shot(k=2)"), toolbox(), ["a"])
    with pytest.raises(ActionError, match="rheostat memory"):
        check_needs(action("few_shot(k=2)"), Toolbox(), ["a"])


def test_the_verifier_is_there_where_queries_bring_it() -> None:
    check_needs(action("best_of_n(n=4,by=verifier)"), Toolbox(), ["a"], references=True)
    with pytest.raises(ActionError, match="verifier"):
        check_needs(action("best_of_n(n=4,by=verifier)"), Toolbox(), ["a"])
