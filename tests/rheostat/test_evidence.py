"""What logs can prove, from the command line."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.commands.common import PIPED_WIDTH
from rheostat.commands.evidence import NAMED, _show_check
from rheostat.training.guarantee import Certificate
from rheostat.training.guarantee_check import Check


def check(**fields) -> Check:
    known = dict.fromkeys(("miss_rate", "miss_rate_allowed", "plugin_miss_rate", "excess_allowed", "infeasible_rate", "attainable"), 0.5)
    counts = dict.fromkeys(("splits", "fits", "n_train", "n_calibration", "n_test"), 40)
    certificate = Certificate(target=0.8, delta=0.1, n=40, index=None, accuracy=0.5, low=0.4)
    unknown = {"mean_accuracy": None, "excess": None, "cost_ratio_vs_plugin": None}
    return Check(target=0.8, delta=0.1, certificate=certificate, **known, **counts, **unknown, **fields)


@pytest.mark.parametrize(("n", "told"), [(2, "s0 (1), s1 (1)"), (NAMED + 30, f"s{NAMED - 1} (1) and 30 more")])
def test_of_many_segments_that_are_too_small_some_are_named(n, told, capsys):
    _show_check(check(too_small={f"s{number}": 1 for number in range(n)}), None)
    assert told in " ".join(capsys.readouterr().out.split())


def test_the_table_of_promises_fits_a_page(capsys):
    part = replace(check(), excess=-0.0123, cost_ratio_vs_plugin=12.345)
    _show_check(replace(part, segments={"bbh/boolean_expressions": part}), None)
    shown = capsys.readouterr().out.splitlines()
    assert sum("│" in line for line in shown) == 2
    assert not [line for line in shown if len(line) > PIPED_WIDTH]


@pytest.mark.parametrize("option", [("--encoder", "minilm"), ("--seed", "1"), ("--splits", "8"), ("--segment", "kind")])
def test_options_that_a_live_promise_does_not_use_are_refused(option, tmp_path):
    refused = CliRunner().invoke(app, ["guarantee", "x.db", "--target", "0.8", "--policy", str(tmp_path), *option])
    assert refused.exit_code == 2
    assert f"leave out {option[0]}" in refused.stderr
