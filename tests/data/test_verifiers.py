from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import ConfigError, DatasetError
from rheostat.data.tasks import load_tasks
from rheostat.data.verifiers import VERIFIERS, GymReference, gym_reference, verifier, verifier_of

OPTIONS = "Which is largest? (A) 12 (B) 34 (C) 5"


COMPARING = [VERIFIERS[name] for name in ("exact", "numeric", "choice", "yesno")]


@given(st.sampled_from(COMPARING), st.text(max_size=30), st.text(max_size=30))
def test_scores_are_zero_one_or_an_abstention(checked, answer, reference) -> None:
    assert checked.verify(OPTIONS, answer, reference, "text") in (0.0, 1.0, None)


@pytest.mark.parametrize("name", VERIFIERS)
def test_no_reference_is_an_abstention(name: str) -> None:
    assert VERIFIERS[name].verify("?", "7", None, "number") is None


@pytest.mark.parametrize(("name", "reference"), [("exact", "7"), ("numeric", "7"), ("choice", "B"), ("yesno", "yes")])
def test_no_answer_is_wrong(name: str, reference: str) -> None:
    assert verifier(name).verify(OPTIONS, None, reference, "text") == 0.0


@pytest.mark.parametrize(
    ("name", "answer", "reference", "score"),
    [
        ("exact", "1,234.0", "1234", 1.0),
        ("exact", "1235", "1234", 0.0),
        ("numeric", "0.33333", "1/3", 1.0),
        ("numeric", "0.3", "1/3", 0.0),
        ("numeric", "many", "3", 0.0),
        ("numeric", "3", "many", None),
        ("choice", "(B)", "B", 1.0),
        ("choice", "34", "B", 1.0),
        ("choice", "12", "B", 0.0),
        ("choice", "B", "34 %", None),
        ("yesno", "true", "yes", 1.0),
        ("yesno", "no", "yes", 0.0),
        ("yesno", "no", "perhaps", None),
    ],
)
def test_each_verifier_compares_in_its_own_way(name: str, answer: str, reference: str, score: float | None) -> None:
    assert verifier(name).verify(OPTIONS, answer, reference, "number") == score


def test_an_unknown_verifier_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="exact, numeric, choice, yesno, reasoning_gym, regex, latex, json_schema, python_tests"):
        verifier("exakt")


def test_a_data_set_is_graded_by_its_own_scorer() -> None:
    assert verifier_of("reasoning_gym/chain_sum").name == "reasoning_gym"
    assert verifier_of("pocket/story").name == "exact"


@pytest.mark.parametrize("name", ["chain_sum", "countdown", "syllogism"])
def test_a_gym_task_is_solved_by_its_own_answer_only(name: str) -> None:
    for task in load_tasks(f"reasoning_gym:{name}", n=3, seed=4):
        assert task.reference is not None
        assert task.kind is not None
        expected = gym_reference(task.reference).answer
        assert verifier("reasoning_gym").verify(task.text, expected, task.reference, task.kind) == 1.0
        assert verifier("reasoning_gym").verify(task.text, "-1", task.reference, task.kind) == 0.0
        assert verifier("reasoning_gym").verify(task.text, None, task.reference, task.kind) == 0.0


def test_a_gym_scorer_accepts_another_solution() -> None:
    (task,) = load_tasks("reasoning_gym:countdown", n=1, seed=4)
    assert task.reference is not None
    expected = gym_reference(task.reference).answer
    assert verifier("reasoning_gym").verify(task.text, f"({expected})", task.reference, "text") == 1.0


@pytest.mark.parametrize("name", ["rotate_matrix", "n_queens", "tower_of_hanoi", "sudoku"])
@pytest.mark.parametrize("wrapped", ["{}", "The answer is:\n{}", "Let me see. It turns.\n\n```\n{}\n```"])
def test_a_gym_scorer_sees_every_line_of_an_answer(name: str, wrapped: str) -> None:
    (task,) = load_tasks(f"reasoning_gym:{name}", n=1, seed=4)
    assert task.reference is not None
    assert task.kind == "text"
    expected = gym_reference(task.reference).answer
    assert expected is not None
    first, rest = expected.split("\n", 1)
    wrong = f"{first}\n{rest.replace('1', '7').replace('_', 'Q')}"
    assert verifier("reasoning_gym").verify(task.text, wrapped.format(expected), task.reference, task.kind) == 1.0
    assert verifier("reasoning_gym").verify(task.text, wrapped.format(wrong), task.reference, task.kind) == 0.0


def test_a_gym_scorer_sees_capitals_and_no_thinking_aloud() -> None:
    (task,) = load_tasks("reasoning_gym:zebra_puzzles", n=1, seed=4)
    assert task.reference is not None
    expected = gym_reference(task.reference).answer
    assert verifier("reasoning_gym").verify(task.text, f"The answer is {expected}. Because so.", task.reference, "text") == 1.0
    assert verifier("reasoning_gym").verify(task.text, f"I thought of {expected}.\n\nBut it is somebody.", task.reference, "text") == 0.0
    assert verifier("reasoning_gym").verify(task.text, " ", task.reference, "text") == 0.0


def test_an_answer_that_breaks_a_gym_scorer_is_wrong() -> None:
    (task,) = load_tasks("reasoning_gym:prime_factorization", n=1, seed=4)
    assert verifier("reasoning_gym").verify(task.text, "The answer is two times three.", task.reference, "text") == 0.0


def test_a_gym_task_of_another_version_is_refused() -> None:
    reference = str(GymReference(gym="chain_sum", seed=0, size=1, index=0, answer="no such answer"))
    with pytest.raises(DatasetError, match="install the version"):
        verifier("reasoning_gym").verify("?", "3", reference, "number")


def test_a_foreign_reference_is_refused_by_the_gym_scorer() -> None:
    with pytest.raises(DatasetError, match="use the verifier 'exact'"):
        verifier("reasoning_gym").verify("?", "7", "7", "number")
