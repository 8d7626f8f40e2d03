"""Results as Markdown: every number shown was in a report."""

from __future__ import annotations

import functools

import msgspec

from rheostat.training.backtest_stopping import Reference, StopCurve, StopPoint, StopReport
from rheostat.training.results_page import HEADING, TableResult, replaced, section, table_part, write_section
from tests.training.test_backtest import report


@functools.cache
def result(n: int = 1) -> TableResult:
    return TableResult(
        name="sheep", encoder="static", costs=[0.1, 0.5], backtests=[report()] * n, cpu_s=[3.0] * n, on_shuffled="do not route"
    )


def stopping() -> StopReport:
    points = [StopPoint(setting="lead(2)", samples=3.0, accuracy=0.6, low=0.5, high=0.7)]
    return StopReport(
        reference=Reference(rule="fixed(8)", samples=8.0, accuracy=0.55),
        rules={"lead": StopCurve(points=points, samples_at_reference=3.0), "esc": StopCurve(points=points, samples_at_reference=None)},
        k=16, n_train=60, n_items=40, n_questions=40, groups=["g"], prior="group",
    )  # fmt: skip


def test_table_shows_every_policy_with_its_ratio_and_accuracies():
    page = table_part(result())
    policy = report().policies["rheostat"]
    row = next(line for line in page.splitlines() if "from the prompt" in line)
    assert f"{policy.cost_ratio:.1f} [{policy.cost_ratio_interval[0]:.1f}, {policy.cost_ratio_interval[1]:.1f}]" in row
    assert f"{policy.aiq:.3f}" in row
    assert f"{policy.apgr:.3f}" in row
    assert sum(line.startswith("| ") for line in page.splitlines()) == 2 + len(report().policies)
    assert f"Verdict: **{report().verdict}**" in page
    assert "With shuffled rewards: do not route" in page


def test_every_row_has_as_many_cells_as_the_head():
    lines = [line for line in table_part(result(2)).splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in lines}) == 1


def test_several_splits_show_the_median_and_each():
    ratio = report().policies["rheostat"].cost_ratio
    assert f"**{ratio:.1f}** ({ratio:.1f}, {ratio:.1f})" in table_part(result(2))


def test_splits_that_disagree_are_counted():
    other = msgspec.structs.replace(report(), verdict="do not route")
    page = table_part(msgspec.structs.replace(result(), backtests=[report(), other, report()]))
    assert "**do not route** on 1, **route** on 2" in page


def test_stop_rules_name_the_best_published_and_those_that_never_get_there():
    page = table_part(msgspec.structs.replace(result(), stopping={"": stopping(), "in the dark": stopping()}))
    assert "Best published rule: lead, 3.00" in page
    assert "| rule | samples | samples, in the dark |" in page
    assert "| esc | not reached | not reached |" in page


def test_what_could_not_be_run_is_said():
    page = table_part(TableResult(name="one", encoder="static", costs=[], notes=["it has one arm"]))
    assert page == "### one\n\nNot run: it has one arm."


def test_only_the_own_section_is_replaced():
    page = "# Results\n\n## Serving\n\nfast\n"
    once = replaced(page, section([result()], "command one"))
    assert once.startswith("# Results\n\n## Serving\n\nfast\n")
    after = once + "\n## Peers on one engine\n\nslow\n"
    twice = replaced(after, section([result()], "command two"))
    assert twice.count(HEADING) == 1
    assert "command one" not in twice
    assert "fast" in twice
    assert twice.endswith("## Peers on one engine\n\nslow\n")
    assert replaced(twice, section([result()], "command two")) == twice


def test_empty_page_becomes_the_section():
    text = section([result()], "command")
    assert replaced("", text) == text


def test_a_page_that_is_not_there_is_made_with_its_folder(tmp_path):
    page, text = tmp_path / "docs" / "results.md", section([result()], "command")
    write_section(page, text)
    write_section(page, text)
    assert page.read_text(encoding="utf-8") == text


def test_what_sets_a_table_apart_stands_under_its_name():
    about = "The queries of the flock that are black."
    assert table_part(msgspec.structs.replace(result(), about=about)).startswith(f"### sheep\n\n{about}\n\n")
