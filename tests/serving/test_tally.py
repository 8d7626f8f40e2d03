"""Counts come out as those of the library's own counters would."""

import re

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from rheostat.serving.tally import Tally


def shown(registry):
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if not re.search(r"_created\b", line))


@given(counted=st.lists(st.tuples(st.sampled_from(["a", 'b"\n\\', ""]), st.sampled_from("xy"), st.floats(0, 100))))
def test_a_tally_shows_what_a_counter_shows(counted):
    plain, own = CollectorRegistry(), CollectorRegistry()
    counter = Counter("things", "Things.", ["kind", "where"], registry=plain)
    tally = Tally("things", "Things.", ["kind", "where"], registry=own)
    for kind, where, n in counted:
        counter.labels(kind, where).inc(n)
        tally.add(kind, where, n=n)
    assert shown(own) == shown(plain)


def test_counts_that_are_known_beforehand_are_shown_before_there_is_anything_to_count():
    plain, own = CollectorRegistry(), CollectorRegistry()
    Counter("things", "Things.", ["kind"], registry=plain).labels("a")
    Tally("things", "Things.", ["kind"], [("a",)], registry=own)
    assert shown(own) == shown(plain)


def test_a_tally_without_labels_begins_at_nothing():
    plain, own = CollectorRegistry(), CollectorRegistry()
    Counter("things", "Things.", registry=plain)
    Tally("things", "Things.", registry=own)
    assert shown(own) == shown(plain)
