"""What the process does for itself around serving."""

from __future__ import annotations

import gc

import pytest

from rheostat.serving.server import YOUNG_OBJECTS, spare_the_collector


@pytest.fixture
def collector():
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_is_there_at_the_start_is_not_looked_at_again_and_new_garbage_is(collector):
    spare_the_collector()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == YOUNG_OBJECTS
    cycle = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1
