import time

import pytest

from rheostat.data.errors import RegistryError
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.schema import Reward
from rheostat.data.segment_files import read_segments
from rheostat.data.store import OutcomeStore
from rheostat.training.fetch import fetch_segments
from rheostat.training.ship import ship_once
from tests.training.conftest import write_store


@pytest.fixture
def path(tmp_path):
    write_store(tmp_path / "s.db", 4)
    with OutcomeStore(tmp_path / "s.db") as store:
        store.put(Reward(decision_id="d0001", reward=0.5, source=str(tmp_path), created_s=1.0))
    return tmp_path / "s.db"


def test_what_was_shipped_comes_back_whole(tracking, path, tmp_path):
    names = {f"{shipped.segment_id}.parquet" for shipped in ship_once(path, tracking.uri, max_rows=2)}
    fetched = [file for file in fetch_segments(tracking.uri, tmp_path / "got") if file.name in names]
    assert len(fetched) == 3
    with OutcomeReader(path) as store:
        assert read_segments(fetched)["seq"].to_list() == [row.seq for row in store.rows_after()]


def test_files_that_are_there_are_not_fetched_again(tracking, path, tmp_path):
    ship_once(path, tracking.uri)
    first = fetch_segments(tracking.uri, tmp_path / "got")
    stamps = [file.stat().st_mtime_ns for file in first]
    assert fetch_segments(tracking.uri, tmp_path / "got") == first
    assert [file.stat().st_mtime_ns for file in first] == stamps


def test_only_segments_shipped_after_the_time_come(tracking, path, tmp_path):
    ship_once(path, tracking.uri)
    assert fetch_segments(tracking.uri, tmp_path / "got", after_s=time.time() + 60) == []


def test_without_mlflow_the_error_says_so(tmp_path):
    with pytest.raises(RegistryError, match="does not answer"):
        fetch_segments("http://127.0.0.1:9", tmp_path)
