import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from rheostat.data.errors import RegistryError, StoreError
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.schema import Reward
from rheostat.data.segment_files import read_segments
from rheostat.data.store import OutcomeStore
from rheostat.training import ship
from rheostat.training.segment_summary import HASH_TAG
from rheostat.training.ship import EXPERIMENT, NotAllShippedError, Shipped, main, pause_s, ship_loop, ship_once
from rheostat.training.tracking import experiment_id, logged_run, mlflow_client
from tests.training.conftest import write_store

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def path(tmp_path):
    write_store(tmp_path / "s.db", 6)
    # A segment is known by its records: without a difference, every test would ship the same one.
    with OutcomeStore(tmp_path / "s.db") as store:
        store.put(Reward(decision_id="d0000", reward=0.0, source=str(tmp_path), created_s=1.0))
    return tmp_path / "s.db"


def runs_of(uri, path):
    with mlflow_client(uri) as client, OutcomeReader(path) as store:
        experiment = experiment_id(client, EXPERIMENT)
        found = [client.search_runs([experiment], f"tags.`{HASH_TAG}` = '{s.sha256}'") for s in store.segments()]
        return [run for runs in found for run in runs]


def test_a_segment_becomes_one_finished_run_with_its_rows_metrics_and_tags(tracking, path, tmp_path):
    (shipped,) = ship_once(path, tracking.uri)
    (run,) = runs_of(tracking.uri, path)
    assert (run.info.run_id, run.info.status, shipped.rows, shipped.logged) == (shipped.run_id, "FINISHED", 7, True)
    wanted = {"requests": 6, "completion_tokens": 30, "wasted_tokens": 6, "spend_usd": 3, "mean_reward": 6 / 7, "late_rewards": 1}
    assert {name: run.data.metrics[name] for name in wanted} == pytest.approx(wanted)
    assert run.data.metrics["degraded_share"] == pytest.approx(2 / 6)
    assert (run.data.tags["rheostat.bundles"], run.data.tags["rheostat.first_id"]) == ("7", "d0000")
    assert run.inputs.dataset_inputs[0].dataset.name == shipped.segment_id
    with mlflow_client(tracking.uri) as client:
        folder = client.download_artifacts(run.info.run_id, "segment", str(tmp_path))
    frame = read_segments([f"{folder}/{shipped.segment_id}.parquet"])
    assert frame.filter(frame["kind"] == "outcome")["decision_id"].to_list() == [f"d{i:04}" for i in range(6)]


def test_nothing_is_shipped_twice_and_new_rows_ship_on_their_own(tracking, path):
    assert len(ship_once(path, tracking.uri)) == 1
    assert ship_once(path, tracking.uri) == []
    write_store(path, 2, start=6)
    (second,) = ship_once(path, tracking.uri)
    assert second.rows == 2
    assert len(runs_of(tracking.uri, path)) == 2


def test_long_logs_are_cut_into_segments_that_cover_every_row_once(tracking, path):
    assert [s.rows for s in ship_once(path, tracking.uri, max_rows=3)] == [3, 3, 1]


def test_with_mlflow_away_everything_waits_and_ships_later_once(tracking, path):
    for _ in range(3):
        with pytest.raises(RegistryError, match="does not answer"):
            ship_once(path, NOWHERE, max_rows=3)
    with OutcomeReader(path) as store:
        assert [s.rows for s in store.segments("closed")] == [3, 3]
    assert [s.rows for s in ship_once(path, tracking.uri, max_rows=3)] == [3, 3, 1]
    assert len(runs_of(tracking.uri, path)) == 3


def test_a_crash_after_logging_does_not_log_again(tracking, path, monkeypatch):
    def crash(self, segment_id, run_id):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OutcomeReader, "mark_shipped", crash)
        with pytest.raises(KeyboardInterrupt):
            ship_once(path, tracking.uri)
    (shipped,) = ship_once(path, tracking.uri)
    assert not shipped.logged
    assert len(runs_of(tracking.uri, path)) == 1


@pytest.mark.parametrize("damage", ["body = x'c1'", "body = cast('{}' AS BLOB)"])
def test_a_segment_with_a_damaged_row_holds_up_no_other_and_is_tried_again(tracking, path, damage, caplog):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        (seq, body) = connection.execute("SELECT seq, body FROM events WHERE kind = 'outcome' ORDER BY seq LIMIT 1").fetchone()
        connection.execute(f"UPDATE events SET {damage} WHERE seq = ?", (seq,))
    with pytest.raises(NotAllShippedError, match=r"1 of 3 segments .* damaged row") as caught:
        ship_once(path, tracking.uri, max_rows=3)
    assert [s.rows for s in caught.value.shipped] == [3, 1]
    write_store(path, 2, start=6)
    stop = threading.Event()
    stop.set()
    assert ship_loop(path, tracking.uri, stop) == 1
    assert "damaged row" in caplog.text
    assert len(runs_of(tracking.uri, path)) == 3
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE events SET body = ? WHERE seq = ?", (body, seq))
    assert [s.rows for s in ship_once(path, tracking.uri)] == [3]


def test_a_run_left_half_done_is_replaced(tracking, path):
    with OutcomeReader(path) as store:
        segment = store.close_segment()
    assert segment is not None
    with mlflow_client(tracking.uri) as client:
        client.create_run(experiment_id(client, EXPERIMENT), tags={HASH_TAG: segment.sha256})
        with pytest.raises(ZeroDivisionError), logged_run(client, experiment_id(client, EXPERIMENT), tags={HASH_TAG: segment.sha256}):
            raise ZeroDivisionError
    ship_once(path, tracking.uri)
    (run,) = runs_of(tracking.uri, path)
    assert run.info.status == "FINISHED"


def test_two_shippers_of_one_store_take_turns_or_the_second_says_why_not(tracking, path):
    with ship._only_shipper(path, 0.0), pytest.raises(StoreError, match="another process"):
        ship_once(path, tracking.uri, wait_s=0.0)
    shipped = []
    threads = [threading.Thread(target=lambda: shipped.extend(ship_once(path, tracking.uri))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shipped) == len(runs_of(tracking.uri, path)) == 1


def test_the_loop_outlives_an_absent_mlflow_and_ships_once_more_when_stopped(tracking, path):
    stop = threading.Event()
    stop.set()
    assert ship_loop(path, NOWHERE, stop) == 0
    assert ship_loop(path, tracking.uri, stop) == 1


def test_the_loop_ships_again_after_each_pause(tracking, path, monkeypatch):
    class Stop(threading.Event):
        rounds = 0

        def wait(self, timeout=None):
            self.rounds += 1
            write_store(path, 1, start=10 + self.rounds)
            if self.rounds == 2:
                self.set()
            return self.is_set()

    assert ship_loop(path, tracking.uri, Stop(), interval_s=0) == 3


def test_what_stays_damaged_is_told_once_however_many_others_are_shipped_beside_it(path, monkeypatch, caplog):
    class Stop(threading.Event):
        rounds = 0

        def wait(self, timeout=None):
            Stop.rounds += 1
            if Stop.rounds == 3:
                self.set()

    sent = Shipped(segment_id="s", run_id="r", rows=1, logged=True)

    def damaged(*_, **__):
        raise NotAllShippedError([StoreError("a damaged row")], [sent] * Stop.rounds)

    monkeypatch.setattr(ship, "ship_once", damaged)
    assert ship_loop(path, NOWHERE, Stop()) == 0 + 1 + 2 + 3
    assert [record.getMessage() for record in caplog.records] == ["1 of 1 segments are not shipped and will be tried again: a damaged row"]


def test_pauses_grow_with_failures_and_stay_bounded():
    assert pause_s(0, 10) == 10
    assert all(10 <= pause_s(1, 10) <= 20 for _ in range(50))
    assert all(pause_s(n, 10) <= ship.MAX_BACKOFF_S for n in range(60))


def test_a_missing_store_is_named(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        ship_once(tmp_path / "none.db", NOWHERE)


def test_the_command_ships_once_and_says_what(tracking, path, capsys):
    assert main(["--store", str(path), "--tracking-uri", tracking.uri, "--once"]) == 0
    assert "7 rows in run" in capsys.readouterr().out


def test_the_process_ships_what_is_left_when_told_to_stop(tracking, path):
    arguments = ["--store", str(path), "--tracking-uri", tracking.uri, "--interval", "600", "--with-parent"]
    process = subprocess.Popen([sys.executable, "-m", "rheostat.training.ship", *arguments], stderr=subprocess.PIPE, text=True)
    try:
        while not shipped_segments(path):
            assert process.poll() is None
            threading.Event().wait(0.05)
        write_store(path, 1, start=6)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert shipped_segments(path) == 2


def shipped_segments(path):
    with OutcomeReader(path) as store:
        return len(store.segments("shipped"))


def test_an_orphan_stops():
    stop = threading.Event()
    ship._watch_parent(os.getppid() + 1, stop)
    assert stop.is_set()
