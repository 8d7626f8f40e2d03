"""What the demo says at its end, without running it."""

from __future__ import annotations

from pathlib import Path

from rheostat.demonstration import _fixed_row, _live_row, _stopped
from rheostat.live import Reply
from tests.training.fitting import fitted


def test_requests_are_counted_where_they_were_sent_and_nowhere_else() -> None:
    replies = [
        Reply(
            query_id=f"q{calls}", decision_id="d", action="m/cot@256", bundle="b", correct=True, p_correct=0.5, tokens=40, calls=calls,
            seconds=0.1,
        )
        for calls in (1, 2)
    ]  # fmt: skip
    assert _live_row(0.5, replies).cells[3] == "1.5"
    assert _fixed_row(fitted().evaluation.fixed[0], 100, 0.1).cells[3] == "-"


def test_of_a_stopped_mlflow_the_command_is_told_and_no_dead_address() -> None:
    assert "rheostat up --state kept/demo" in _stopped(Path("kept/demo"))
    assert "http" not in _stopped(Path("kept/demo"))
