"""What is known about one query."""

from __future__ import annotations

from rheostat.data.schema import Constraints
from tests.router.conftest import situation


def test_an_action_is_late_once_its_slow_end_passes_the_deadline():
    seconds = situation().seconds_p95
    for action, slow in enumerate(seconds):
        assert not situation(constraints=Constraints(deadline_s=float(slow))).is_late(action)
        assert situation(constraints=Constraints(deadline_s=float(slow) * 0.99)).is_late(action)
        assert not situation().is_late(action)
