from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rheostat.data import migrations, outcomes
from rheostat.data import store as stores
from rheostat.data.errors import StoreError
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.schema import Decision, Outcome, Reward, Sample, new_id
from rheostat.data.store import OutcomeStore

MakeDecision = Callable[[int], Decision]
MakeOutcome = Callable[..., Outcome]
MakeReward = Callable[..., Reward]
MakeSample = Callable[..., Sample]


def test_records_come_back_equal(store: OutcomeStore, decision: MakeDecision, outcome: MakeOutcome, reward: MakeReward) -> None:
    for record in (decision(1), outcome(1), reward(1)):
        assert store.put(record)
    assert store.flush()
    assert store.decision("d-000001") == decision(1)
    assert store.outcome("d-000001") == outcome(1)
    assert store.rewards("d-000001") == [reward(1)]
    assert store.decision("d-000002") is store.outcome("d-000002") is None


def test_the_first_of_two_records_with_one_key_stays(
    store: OutcomeStore, decision: MakeDecision, outcome: MakeOutcome, reward: MakeReward, sample: MakeSample
) -> None:
    first = (decision(1), outcome(1), reward(1, 1.0), sample(1))
    again = (msgspec.structs.replace(decision(1), tier="deep"), outcome(1, 0.5), reward(1, 0.0), sample(1, answer="8"))
    for record in (*first, *again, reward(1, 0.0, "judge")):
        store.put(record)
    store.flush()
    assert store.decision("d-000001") == first[0]
    assert store.outcome("d-000001") == first[1]
    assert [(r.source, r.reward) for r in store.rewards("d-000001")] == [("feedback", 1.0), ("judge", 0.0)]
    assert list(store.samples()) == [first[3]]


def test_rows_come_in_order_page_by_page_and_decisions_without_outcome_wait(
    store: OutcomeStore, decision: MakeDecision, outcome: MakeOutcome, reward: MakeReward
) -> None:
    for i in range(10):
        store.put(decision(i))
    for i in range(7):
        store.put(outcome(i))
    store.put(reward(3))
    store.flush()
    rows = store.rows_after(0, 5)
    rows += store.rows_after(rows[-1].seq, 5)
    assert [row.decision_id for row in rows] == [f"d-{i:06d}" for i in [*range(7), 3]]
    assert [row.decision for row in rows[:7]] == [decision(i) for i in range(7)]
    assert rows[7].reward == reward(3)
    assert store.rows_after(rows[-1].seq) == []
    counts = store.counts()
    assert (counts.decisions, counts.outcomes, counts.rewards, counts.unfinished) == (10, 7, 1, 3)


def test_sample_keys_tell_what_a_resumed_run_has(store: OutcomeStore, sample: MakeSample) -> None:
    for i in range(3):
        for model in ("pocket", "smol"):
            store.put(sample(i, model=model))
    store.flush()
    assert len(store.sample_keys()) == 6
    assert store.sample_keys(model="smol") == {("pocket/addition", "q", "smol", "cot", 0.8, i) for i in range(3)}
    assert store.sample_keys(dataset="other") == store.sample_keys(strategy="direct") == set()


def test_samples_are_read_over_many_pages(store: OutcomeStore, sample: MakeSample) -> None:
    expected = [sample(i) for i in range(4_500)]
    for record in expected:
        store.put(record)
    store.flush()
    assert list(store.samples()) == expected


def test_finished_decisions_come_over_many_pages_each_once(
    store: OutcomeStore, decision: MakeDecision, outcome: MakeOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "PAGE_ROWS", 3)
    made = [msgspec.structs.replace(decision(i), decision_id=new_id("d")) for i in range(8)]
    for one in made:
        store.put(one)
    for one in made[:7]:
        store.put(msgspec.structs.replace(outcome(1), decision_id=one.decision_id))
    store.flush()

    found = list(itertools.islice(store.finished_since(0.0), 20))

    assert sorted(seen.decision_id for seen, _ in found) == sorted(one.decision_id for one in made[:7])
    assert all(seen.decision_id == result.decision_id for seen, result in found)


def test_a_damaged_record_takes_no_other_with_it(
    store: OutcomeStore, decision: MakeDecision, outcome: MakeOutcome, caplog: pytest.LogCaptureFixture
) -> None:
    made = [msgspec.structs.replace(decision(i), decision_id=new_id("d")) for i in range(3)]
    for one in made:
        store.put(one)
        store.put(msgspec.structs.replace(outcome(1), decision_id=one.decision_id))
    store.flush()
    with contextlib.closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE events SET body = x'c1' WHERE decision_id = ?", (made[1].decision_id,))

    assert {seen.decision_id for seen, _ in store.finished_since(0.0)} == {made[0].decision_id, made[2].decision_id}
    assert made[1].decision_id in caplog.text


def test_a_record_without_bytes_is_rejected_and_the_others_are_kept(store: OutcomeStore, decision: MakeDecision) -> None:
    store.put(decision(1))
    store.put(msgspec.structs.replace(decision(2), prompt_text="\ud800"))
    store.put(msgspec.structs.replace(decision(3), tenant=object()))  # type: ignore[arg-type]
    store.put(msgspec.structs.replace(decision(4), action=("not", "text")))  # type: ignore[arg-type]
    store.put(decision(5))
    assert store.flush()
    assert store.counts().decisions == 2
    assert store.stats().rejected == 3
    assert store.healthy


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 200])
def test_bad_records_cost_a_group_nothing_but_themselves(store: OutcomeStore, sample: MakeSample, size: int) -> None:
    good = [sample(number) for number in range(size)]
    for number, record in enumerate(good):
        store.put(record)
        if number % 7 == 3:
            store.put(sample(2**63 + number))
            store.put(sample(number, answer="\ud800"))
    assert store.flush()
    assert list(store.samples()) == good
    assert store.stats().rejected == 2 * len(range(3, size, 7))


def test_a_whole_number_beyond_64_bits_is_rejected(store: OutcomeStore, sample: MakeSample) -> None:
    store.put(sample(2**63))
    assert store.flush()
    assert store.stats().rejected == 1


def test_a_clean_close_loses_nothing_and_may_come_twice(tmp_path: Path, decision: MakeDecision) -> None:
    with OutcomeStore(tmp_path / "store.db") as store:
        for i in range(1_000):
            store.put(decision(i))
    store.close()
    assert not store.put(decision(2_000))
    with OutcomeReader(tmp_path / "store.db") as reader:
        assert reader.counts().decisions == 1_000


def test_a_second_writer_is_refused_and_told_who_is_first(store: OutcomeStore, decision: MakeDecision) -> None:
    with pytest.raises(StoreError, match=f"being written by process {os.getpid()}"):
        OutcomeStore(store.path)
    store.put(decision(1))
    assert store.flush()


def test_readers_are_welcome_while_one_writes(store: OutcomeStore, decision: MakeDecision) -> None:
    with OutcomeReader(store.path) as reader:
        store.put(decision(1))
        store.flush()
        assert reader.decision("d-000001") == decision(1)


def test_the_lock_is_free_again_after_a_refused_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("no database " * 100)
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot open"):
            OutcomeStore(path)
    path.unlink()
    OutcomeStore(path).close()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="check the folder"):
        OutcomeStore(tmp_path / "file" / "store.db")


def test_a_closed_reader_tells_its_trouble_as_a_store_error(store: OutcomeStore) -> None:
    reader = OutcomeReader(store.path)
    reader.close()
    with pytest.raises(StoreError, match="cannot use the store"):
        reader.counts()


def test_a_group_is_visible_whole_or_not_at_all(store: OutcomeStore, decision: MakeDecision) -> None:
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON decisions WHEN NEW.decision_id = 'd-000007' BEGIN SELECT RAISE(FAIL, 'full'); END"
        )
        for i in range(10):
            store.put(decision(i))
        assert not store.flush(0.3)
        assert not store.healthy
        assert store.counts().decisions in range(8)
        assert store.decision("d-000007") is None
        other.execute("DROP TRIGGER full")
    assert store.flush(30)
    assert store.healthy
    assert store.counts().decisions == 10


def test_whatever_breaks_a_group_does_not_stop_the_next(
    store: OutcomeStore, monkeypatch: pytest.MonkeyPatch, decision: MakeDecision
) -> None:
    insert = store._insert

    def out_of_memory(table: str, rows: list[stores.Row]) -> int:
        insert(table, rows)
        raise MemoryError

    monkeypatch.setattr(store, "_insert", out_of_memory)
    store.put(decision(1))
    assert store.flush(30)
    monkeypatch.undo()
    store.put(decision(2))
    assert store.flush(30)
    assert (store.decision("d-000001"), store.decision("d-000002")) == (None, decision(2))
    assert store.stats().rejected == 1


def test_a_store_locked_by_others_is_written_once_they_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decision: MakeDecision
) -> None:
    monkeypatch.setattr(migrations, "BUSY_TIMEOUT_S", 0.01)
    with OutcomeStore(tmp_path / "store.db") as store, contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.put(decision(1))
        assert not store.flush(0.3)
        assert store.stats().last_error == "database is locked"
        other.execute("ROLLBACK")
        assert store.flush(30)
        assert store.decision("d-000001") == decision(1)


def test_two_names_of_one_file_are_one_store(store: OutcomeStore, tmp_path: Path) -> None:
    (tmp_path / "alias.db").symlink_to(store.path)
    with pytest.raises(StoreError, match="being written by process"):
        OutcomeStore(tmp_path / "alias.db")


def test_the_request_path_loads_no_data_frame_library() -> None:
    modules = "answers, verifiers, tasks, store, outcomes, segments, segment_files, samples, parquet"
    heavy = "{'polars', 'pyarrow', 'pandas', 'reasoning_gym', 'numpy'}"
    program = f"import sys; from rheostat.data import {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


WRITE_UNTIL_KILLED = """
import itertools, sys
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Decision, Outcome
from rheostat.data.store import OutcomeStore

store = OutcomeStore(sys.argv[1])
for i in itertools.count():
    name = f"d-{i:09d}"
    store.put(Decision(decision_id=name, query_id="q", created_s=1.0, action="a/b@1", propensity=1.0, prompt_text="x" * 500))
    store.put(Outcome(decision_id=name, finished_s=2.0, status="ok", ledger=Ledger(), cost_usd=0.0, latency_s=0.0))
    if i % 500 == 499:
        assert store.flush(30)
        print(i + 1, flush=True)
"""


def test_what_a_flush_acknowledged_survives_kill_9_and_nothing_is_half_visible(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    acknowledged = 0
    for lines in (1, 3):
        child = subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        with child.stdout:
            for _ in range(lines):
                acknowledged = max(acknowledged, int(child.stdout.readline()))
            child.send_signal(signal.SIGKILL)
        child.wait()
        with OutcomeStore(path) as store:
            rows = store.rows_after(0, 10**9)
            assert len(rows) >= acknowledged
            assert all(row.decision is not None and row.outcome is not None for row in rows)
            assert [row.decision_id for row in rows] == [f"d-{i:09d}" for i in range(len(rows))]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


FILL_THE_DISK = """
import resource, sys
from rheostat.data.schema import Decision
from rheostat.data.store import OutcomeStore

def decision(i):
    return Decision(decision_id=f"d-{i:06d}", query_id="q", created_s=1.0, action="a/b@1", propensity=1.0, prompt_text="x" * 2000)

store = OutcomeStore(sys.argv[1], max_queued=300)
store.put(decision(0))
assert store.flush(30) and store.healthy
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, unlimited[1]))
accepted = [i for i in range(1, 1_000) if store.put(decision(i))]
assert not store.flush(0.5)
assert not store.healthy and store.stats().dropped >= 600
assert store.counts().decisions == 1, "half of a group is visible"
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
assert store.flush(30) and store.healthy
assert store.counts().decisions == 1 + len(accepted)
store.close()
"""


def test_a_full_disk_degrades_and_resumes(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL_THE_DISK, str(tmp_path / "store.db")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
