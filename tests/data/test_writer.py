from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import StoreError
from rheostat.data.writer import GROUP_S, GroupWriter


class Sink:
    """Keeps what is written; refuses while `broken`, and waits while `gate` is not set."""

    def __init__(self, *, broken: bool = False, gate: threading.Event | None = None) -> None:
        self.kept: list[int] = []
        self.groups: list[int] = []
        self.broken = broken
        self.gate = gate
        self.tried = threading.Event()

    def write(self, records: Sequence[int]) -> int:
        self.tried.set()
        if self.gate is not None:
            self.gate.wait()
        if self.broken:
            raise sqlite3.OperationalError("database or disk is full")
        self.kept.extend(records)
        self.groups.append(len(records))
        return 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(), max_size=500))
def test_everything_is_written_once_and_in_order(records: list[int]) -> None:
    sink = Sink()
    writer = GroupWriter(sink.write)
    assert all(writer.put(record) for record in records)
    writer.close(5)
    assert sink.kept == records
    assert writer.stats().written == len(records)


def test_what_was_put_before_a_flush_is_written_after_it() -> None:
    sink = Sink()
    writer = GroupWriter(sink.write)
    for i in range(100):
        writer.put(i)
    assert writer.flush(5)
    assert sink.kept == list(range(100))
    writer.close(5)


def test_many_threads_lose_nothing() -> None:
    sink = Sink()
    writer = GroupWriter(sink.write)
    threads = [threading.Thread(target=lambda start=start: [writer.put(start + i) for i in range(500)]) for start in range(0, 4_000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close(5)
    assert sorted(sink.kept) == list(range(4_000))


def test_a_put_does_not_wait_for_the_disk_and_memory_is_bounded() -> None:
    gate = threading.Event()
    sink = Sink(gate=gate)
    writer = GroupWriter(sink.write, max_queued=10)
    accepted = [writer.put(i) for i in range(25)]
    assert accepted == [True] * 10 + [False] * 15
    assert writer.stats().dropped == 15
    assert not writer.flush(0.01)
    gate.set()
    assert writer.flush(5)
    assert sink.kept == list(range(10))
    writer.close(5)


def test_what_waits_is_bounded_by_its_text_as_well() -> None:
    gate = threading.Event()
    sink = Sink(gate=gate)
    writer = GroupWriter(sink.write, text_of=lambda record: record, max_text=100)
    assert [writer.put(record) for record in (60, 0, 60, 0, 1)] == [True, True, True, False, False]
    gate.set()
    assert writer.flush(5)
    assert writer.put(120)
    assert writer.flush(5)
    assert writer.put(1)
    writer.close(5)
    assert sink.kept == [60, 0, 60, 120, 1]


def test_a_broken_disk_makes_it_unhealthy_and_it_resumes_by_itself() -> None:
    sink = Sink(broken=True)
    writer = GroupWriter(sink.write)
    writer.put(1)
    sink.tried.wait()
    assert not writer.flush(0.05)
    assert not writer.healthy
    assert writer.stats().last_error == "database or disk is full"
    sink.broken = False
    writer.put(2)
    assert writer.flush(5)
    assert writer.healthy
    assert sink.kept == [1, 2]
    assert writer.stats().failures >= 1
    writer.close(5)


def test_closing_on_a_broken_disk_says_how_much_is_lost() -> None:
    writer = GroupWriter(Sink(broken=True).write)
    for i in range(3):
        writer.put(i)
    with pytest.raises(StoreError, match="3 records could not be written"):
        writer.close(0.3)
    assert not writer.put(4)
    assert not writer.flush(1)


def test_after_a_clean_close_puts_are_dropped_and_flush_holds() -> None:
    writer = GroupWriter(Sink().write)
    writer.put(1)
    writer.close(5)
    assert not writer.put(2)
    assert writer.flush(1)
    assert not writer.healthy
    assert writer.stats().dropped == 1


def test_a_group_that_can_never_be_written_does_not_stop_the_next() -> None:
    kept: list[int] = []

    def write(records: Sequence[int]) -> int:
        if 13 in records:
            raise TypeError("no such record")
        kept.extend(records)
        return 0

    writer = GroupWriter(write)
    writer.put(13)
    assert writer.flush(5)
    writer.put(14)
    assert writer.flush(5)
    assert kept == [14]
    assert writer.stats().rejected == 1
    writer.close(5)


def test_records_are_written_in_few_groups() -> None:
    sink = Sink()
    writer = GroupWriter(sink.write)
    for i in range(20_000):
        writer.put(i)
    writer.close(5)
    assert len(sink.groups) <= 20_000 // 32


def test_what_comes_during_a_commit_waits_for_a_group_of_its_own() -> None:
    sink = Sink()
    writer = GroupWriter(lambda records: time.sleep(0.005) or sink.write(records))
    began = time.monotonic()
    for i in range(100):
        writer.put(i)
        time.sleep(0.001)
    writer.close(5)
    assert sink.kept == list(range(100))
    assert len(sink.groups) <= (time.monotonic() - began) / GROUP_S + 2
