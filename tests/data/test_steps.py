from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.problems import problems
from rheostat.data.steps import split_steps


def test_worked_solutions_split_into_the_steps_they_were_made_of() -> None:
    for problem in itertools.islice(problems("heldout", 0), 300):
        work = problem.work()
        steps = tuple(step.removesuffix(".") for step in work.steps)

        assert split_steps(work.text) == (*steps, f"The answer is {work.answer.removesuffix('.')}")


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("First 3.\nThen 4; or 5.\n\nSo 7.", ("First 3", "Then 4; or 5", "So 7")),
        ("It is 3.5. So 7", ("It is 3.5", "So 7")),
        ("", ()),
        (" \n\n ", ()),
    ],
)
def test_lines_go_before_clauses_and_decimals_stay_whole(text: str, steps: tuple[str, ...]) -> None:
    assert split_steps(text) == steps


@given(st.text(alphabet="a1.; \n", max_size=60))
def test_no_step_is_empty_and_none_is_lost(text: str) -> None:
    steps = split_steps(text)

    assert all(step.strip() for step in steps)
    assert "".join(filter(str.isalnum, "".join(steps))) == "".join(filter(str.isalnum, text))
