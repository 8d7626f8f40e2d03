"""The demo's own promises."""

from __future__ import annotations

from rheostat.demonstration import SHARES
from tests.e2e.conftest import Stack


def test_every_target_was_answered_live_and_every_fixed_action_is_shown(stack: Stack) -> None:
    live = [row for row in stack.result.rows if row.policy.startswith("rheostat live")]
    fixed = [row for row in stack.result.rows if row not in live]

    assert len(live) == len(SHARES)
    assert all(row.n == 30 and row.tokens > 0 and (row.calls or 0) >= 1 and row.low <= row.accuracy <= row.high for row in live)
    assert all(row.calls is None for row in fixed)
    assert {row.policy.split("/")[0] for row in fixed} == {"pocket", "pocket-large"}


def test_the_usage_in_the_answers_is_what_the_engines_counted(stack: Stack) -> None:
    assert stack.result.ledger_tokens == stack.result.engine_tokens > 0


def test_live_outcomes_took_part_in_the_second_training(stack: Stack) -> None:
    assert any(f"retraining with {30 * (len(SHARES) + 1)} live outcomes" in note for note in stack.result.notes)


def test_both_promotions_say_why(stack: Stack) -> None:
    assert len(stack.result.verdicts) == 2
    assert all(len(verdict.reason) > 20 for verdict in stack.result.verdicts)


def test_the_report_is_there(stack: Stack) -> None:
    reports = sorted(stack.state.glob("training/*/report.html"))

    assert len(reports) == 2
    assert "plotly" in reports[-1].read_text(encoding="utf-8")[:200_000].lower()
