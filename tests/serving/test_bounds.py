"""Who has to go where there are too many connections."""

from rheostat.serving.bounds import CROWD, Bounds


class Waiting:
    def __init__(self):
        self.cuts = []

    def cut(self, reason):
        self.cuts.append(reason)


def bounds(max_connections):
    return Bounds(max_connections=max_connections, head_timeout_s=1.0, idle_timeout_s=1.0, stall_timeout_s=1.0, on_cut=lambda reason: None)


def test_the_connection_that_has_waited_longest_makes_room():
    few, first, second = bounds(1), Waiting(), Waiting()
    few.opened()
    few.waits(first)
    few.waits(second)
    few.opened()
    assert (first.cuts, second.cuts) == ([CROWD], [])


def test_a_connection_that_is_being_served_is_never_cut():
    few, busy = bounds(1), Waiting()
    few.opened()
    few.waits(busy)
    few.serves(busy)
    few.opened()
    assert busy.cuts == []
    assert few.n_open == 2
    few.closed()
    assert few.n_open == 1
