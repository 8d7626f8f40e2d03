"""Axes are ladders of actions that can be built, and differ in one number."""

from __future__ import annotations

from pathlib import Path

import pytest

from rheostat.data.errors import ActionError
from rheostat.data.schema import Action
from rheostat.policies.catalogue import build
from rheostat.training.axes import AXES, distinct, ladder


@pytest.mark.parametrize("axis", AXES)
def test_every_rung_can_be_built_and_no_cap_shrinks_on_the_way_up(axis: str) -> None:
    rungs = ladder(axis, "m", by="prm").rungs

    assert [rung.size for rung in rungs] == sorted({rung.size for rung in rungs})
    assert len({str(rung.action) for rung in rungs}) == len(rungs) >= 3
    sized = [rung for rung in rungs if rung.size]
    assert [rung.action.max_tokens for rung in sized] == sorted(rung.action.max_tokens for rung in sized)
    for rung in rungs:
        assert rung.action.model == "m"
        build(rung.action)


def test_sizes_can_be_named_in_any_order() -> None:
    assert [rung.size for rung in ladder("samples=4,1,4", "m", by="self").rungs] == [1, 4]


@pytest.mark.parametrize(("spelling", "words"), [("luck", "known are reasoning"), ("samples=0", "whole numbers"), ("rounds=a", "rounds=a")])
def test_what_is_no_axis_is_refused(spelling: str, words: str) -> None:
    with pytest.raises(ActionError, match=words):
        ladder(spelling, "m", by="self")


def test_an_action_that_is_on_two_axes_is_run_once() -> None:
    ladders = [ladder("rounds", "m", by="self"), ladder("examples", "m", by="self")]
    chain = Action.parse("m/cot@256")
    actions = distinct(ladders, [chain])

    assert actions[0] == chain
    assert len(actions) == len(set(actions)) == 1 + 3 + 4


def test_every_axis_is_in_the_docs_with_its_largest_size() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweep.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}

    assert list(rows) == list(AXES)
    assert all(f"to `{axis.sizes[-1]}`" in rows[name] for name, axis in AXES.items())
