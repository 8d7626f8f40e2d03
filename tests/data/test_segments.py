from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import StoreError
from rheostat.data.ledger import Ledger
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.schema import Decision, Outcome, Reward
from rheostat.data.segments import Segment
from rheostat.data.store import OutcomeStore


def fill(store: OutcomeStore, start: int, n: int) -> None:
    for i in range(start, start + n):
        store.put(Outcome(decision_id=f"d-{i:06d}", finished_s=1.0, status="ok", ledger=Ledger(), cost_usd=0.0, latency_s=0.0))
    assert store.flush()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(1, 12)), max_size=8))
def test_segments_partition_the_rows_whatever_the_order_of_work(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int]]
) -> None:
    with OutcomeStore(tmp_path_factory.mktemp("store") / "store.db") as store:
        written = 0
        for n, max_rows, min_rows in steps:
            fill(store, written, n)
            written += n
            segment = store.close_segment(max_rows=max_rows, min_rows=min_rows)
            assert segment is None or min_rows <= segment.rows <= max_rows
        while store.close_segment(max_rows=7):
            pass
        shipped = [row.decision_id for segment in store.segments() for row in store.segment_rows(segment)]
        assert shipped == [f"d-{i:06d}" for i in range(written)]


def test_a_decision_ships_with_its_outcome_and_a_later_reward_on_its_own(
    store: OutcomeStore, decision: Callable[[int], Decision], outcome: Callable[..., Outcome], reward: Callable[..., Reward]
) -> None:
    store.put(decision(1))
    store.put(decision(2))
    store.put(outcome(1))
    store.flush()
    first = store.close_segment()
    assert first is not None
    assert [row.decision for row in store.segment_rows(first)] == [decision(1)]
    assert store.close_segment() is None
    store.put(reward(1))
    store.put(outcome(2))
    store.flush()
    second = store.close_segment()
    assert second is not None
    assert [row.kind for row in store.segment_rows(second)] == ["reward", "outcome"]


def test_the_hash_tells_the_records_and_not_the_store(tmp_path: Path) -> None:
    segments = []
    for name in ("a.db", "b.db"):
        with OutcomeStore(tmp_path / name) as store:
            fill(store, 0, 10)
            segments.append(store.close_segment())
    assert segments[0] == segments[1]


def test_a_segment_ships_once(store: OutcomeStore) -> None:
    fill(store, 0, 3)
    segment = store.close_segment()
    assert segment is not None
    assert store.segments("closed") == [segment]
    shipped = store.mark_shipped(segment.segment_id, "run-1")
    assert shipped == store.mark_shipped(segment.segment_id, "run-2")
    assert shipped.run_id == "run-1"
    assert store.segments("shipped") == store.segments() == [shipped]
    assert store.segments("closed") == []
    with pytest.raises(StoreError, match="no segment 'seg-none'"):
        store.mark_shipped("seg-none", "run-1")


def test_a_closed_segment_waits_for_whoever_comes_after_a_crash(tmp_path: Path) -> None:
    with OutcomeStore(tmp_path / "store.db") as store:
        fill(store, 0, 3)
        segment = store.close_segment()
    with OutcomeReader(tmp_path / "store.db") as reader:
        assert reader.close_segment() is None
        assert reader.segments("closed") == [segment]


def test_two_shippers_and_a_writer_share_the_rows_without_overlap(store: OutcomeStore) -> None:
    closed: list[Segment] = []
    done = threading.Event()

    def ship() -> None:
        with OutcomeReader(store.path) as reader:
            while True:
                last = done.is_set()
                segment = reader.close_segment(max_rows=20)
                if segment is not None:
                    closed.append(segment)
                elif last:
                    return

    shippers = [threading.Thread(target=ship) for _ in range(2)]
    for shipper in shippers:
        shipper.start()
    for start in range(0, 1_000, 50):
        fill(store, start, 50)
    done.set()
    for shipper in shippers:
        shipper.join()
    rows = [row.seq for segment in sorted(closed, key=lambda s: s.first_seq) for row in store.segment_rows(segment)]
    assert rows == [row.seq for row in store.rows_after(0, 10_000)]
    assert len(rows) == 1_000
