"""What the process does for itself around serving."""

from __future__ import annotations

import gc
import sys

import pytest

from rheostat.serving.server import TURN_S, YOUNG_OBJECTS, put_requests_first


@pytest.fixture
def interpreter():
    threshold, turn_s = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    sys.setswitchinterval(turn_s)


def test_threads_give_way_to_the_loop_soon(interpreter):
    put_requests_first()
    assert sys.getswitchinterval() == pytest.approx(TURN_S)


def test_what_is_there_at_the_start_is_not_looked_at_again_and_new_garbage_is(interpreter):
    put_requests_first()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == YOUNG_OBJECTS
    cycle = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1
