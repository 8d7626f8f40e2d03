"""What `rheostat backtest` says beside its table."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from rheostat.commands.backtest import _show
from rheostat.commands.common import MOST_NAMED, tell_gaps
from rheostat.training.bootstrap import Interval
from tests.training.test_backtest import report


def refused(cost_ratio: float):
    found = report()
    router = replace(found.policies["rheostat"], cost_ratio=cost_ratio, cost_ratio_interval=(2.2, 22.2))
    unsure = Interval(0.01, -0.02, 0.04)
    return replace(found, verdict="do not route", gain_over_shuffled=unsure, policies=found.policies | {"rheostat": router})


@pytest.mark.parametrize(("cost_ratio", "explained"), [(18.6, True), (0.9, False), (0.0, False)])
def test_a_refusal_beside_a_saving_says_why(cost_ratio, explained, capsys):
    _show(refused(cost_ratio), None)
    said = capsys.readouterr().err
    assert ("Why not, with a cost ratio of 18.6" in said) == explained
    assert ("over a router fitted on shuffled rewards is +0.0100 (95% interval -0.0200 to +0.0400)" in said) == explained


def test_advice_to_route_needs_no_excuse_and_names_where_the_best_fixed_action_was_chosen(capsys):
    _show(report(), None)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert f"best fixed is chosen on the {report().split.n_train} others" in " ".join(shown.out.split())


@pytest.mark.parametrize(
    ("n", "told"), [(1, "m/s0 (50.0% of the queries)\n"), (MOST_NAMED + 3, f"m/s{MOST_NAMED - 1} (50.0% of the queries) and 3 more\n")]
)
def test_what_of_a_log_was_left_out_is_said(n, told, capsys):
    tell_gaps({f"m/s{number}": 0.5 for number in range(n)}, {"a/cot": 0.25}, 12)
    said = capsys.readouterr().err
    assert told in said
    assert "12 queries, which miss the outcome of an action" in said
    assert "without a grade, and counted as wrong: a/cot (25.0% of the answers)" in said


def test_of_a_log_that_is_used_whole_nothing_is_said(capsys):
    tell_gaps({}, {})
    assert capsys.readouterr().err == ""
