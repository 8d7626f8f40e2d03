from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.problems import FAMILIES, LEVELS, Problem, problems, split_of
from rheostat.data.problems.dialogues import (
    ANSWER_ONLY,
    STEP_BY_STEP,
    check,
    critique,
    direct,
    plain,
    revise,
    step_by_step,
    training_dialogue,
    with_examples,
)

CELLS = pytest.mark.parametrize(("family", "level"), list(itertools.product(FAMILIES, LEVELS)))


def drawn(family: str, level: int, n: int = 30) -> list[Problem]:
    rng = random.Random(f"{family} {level}")
    return [FAMILIES[family](rng, level) for _ in range(n)]


@CELLS
def test_the_work_leads_to_the_answer(family: str, level: int) -> None:
    for problem in drawn(family, level):
        work = problem.work()
        assert work.answer == problem.answer
        assert work.first_wrong is None
        assert work.steps
        assert work.text.endswith(f"The answer is {problem.answer}.")
        assert (problem.family, problem.level) == (family, level)


@CELLS
def test_a_slip_changes_its_step_and_none_before(family: str, level: int) -> None:
    for i, problem in enumerate(drawn(family, level)):
        right = problem.work().steps
        for slip in range(len(right)):
            wrong = problem.work(slip=slip, rng=random.Random(i))
            assert wrong.first_wrong == (slip if wrong.steps[slip] != right[slip] else None)
            assert wrong.steps[:slip] == right[:slip]
        assert problem.work(slip=0, rng=random.Random(i)).steps[0] != right[0]


@CELLS
def test_a_seed_reproduces_problems_and_slips(family: str, level: int) -> None:
    first, second = drawn(family, level, 5), drawn(family, level, 5)
    assert [problem.question for problem in first] == [problem.question for problem in second]
    for a, b in zip(first, second, strict=True):
        assert a.work(slip=0, rng=random.Random(1)) == b.work(slip=0, rng=random.Random(1))


@CELLS
def test_every_cell_has_many_questions(family: str, level: int) -> None:
    texts = {problem.question for problem in drawn(family, level, 200)}
    assert len(texts) >= 20


@settings(max_examples=10)
@given(st.integers(), st.integers())
def test_training_and_held_out_questions_never_meet(a: int, b: int) -> None:
    train = {problem.question for problem in itertools.islice(problems("train", a), 200)}
    heldout = {problem.question for problem in itertools.islice(problems("heldout", b), 50)}
    assert not train & heldout


def test_one_question_in_eight_is_held_out() -> None:
    share = sum(split_of(f"question {i}") == "heldout" for i in range(8_000)) / 8_000
    assert 0.11 < share < 0.14


def test_the_stream_reproduces_and_holds_every_cell() -> None:
    stream = list(itertools.islice(problems("train", 7), 2_000))
    assert [p.question for p in stream] == [p.question for p in itertools.islice(problems("train", 7), 2_000)]
    assert {(p.family, p.level) for p in stream} == set(itertools.product(FAMILIES, LEVELS))


def test_dialogues_ask_in_one_wording_and_reply_with_the_solution() -> None:
    problem, other = drawn("chain", 3, 2)
    assert direct(problem).turns == (f"{problem.question} {ANSWER_ONLY}", problem.answer)
    assert step_by_step(problem).turns == (f"{problem.question} {STEP_BY_STEP}", problem.work().text)
    assert plain(problem).turns[0] == problem.question
    assert with_examples([step_by_step(other)], direct(problem)).turns[2:] == direct(problem).turns


def test_a_critique_names_the_first_wrong_step_and_its_correction() -> None:
    (problem,) = drawn("chain", 3, 1)
    right, wrong = problem.work(), problem.work(slip=1, rng=random.Random(0))
    assert critique(problem, right) == "Correct."
    assert critique(problem, wrong) == f"Wrong: {wrong.steps[1]} should be {right.steps[1]}."
    assert check(problem, wrong).turns[-1] == critique(problem, wrong)
    assert revise(problem, wrong).turns[-1] == right.text


@settings(max_examples=100)
@given(st.randoms(use_true_random=False), st.sampled_from(list(FAMILIES)), st.sampled_from(LEVELS))
def test_every_training_dialogue_ends_with_a_reply(rng: random.Random, family: str, level: int) -> None:
    problem, neighbour = drawn(family, level, 2)
    turns = training_dialogue(problem, rng, neighbour).turns
    assert len(turns) % 2 == 0
    assert all(turns)
