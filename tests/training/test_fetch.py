import time
from types import SimpleNamespace

import pytest

from rheostat.data.errors import RegistryError
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.schema import Reward
from rheostat.data.segment_files import read_segments
from rheostat.data.store import OutcomeStore
from rheostat.training.fetch import _fetched, fetch_segments
from rheostat.training.segment_summary import HASH_TAG, ID_TAG
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


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "", "seg-0123", "seg-0123456789abcdef0123\n"])
def test_a_run_cannot_name_a_file_of_its_own_choice(name, tmp_path):
    client = Runs(Run({HASH_TAG: "x", ID_TAG: name} if name else {HASH_TAG: "x"}))
    with pytest.raises(RegistryError, match=r"no name of a segment.*--no-live"):
        _fetched(client, client.run, tmp_path / "got")
    assert list(tmp_path.iterdir()) == []
    assert not client.asked


def test_a_run_whose_file_is_gone_is_named(tmp_path):
    client = Runs(Run({HASH_TAG: "x", ID_TAG: f"seg-{'0' * 20}"}))
    with pytest.raises(RegistryError, match="run r1 has no seg-"):
        _fetched(client, client.run, tmp_path)
    assert list(tmp_path.iterdir()) == []


class Run:
    """A run in MLflow, by its tags."""

    def __init__(self, tags):
        self.info, self.data = SimpleNamespace(run_id="r1"), SimpleNamespace(tags=tags)


class Runs:
    """A client whose artifacts are gone."""

    def __init__(self, run):
        self.run, self.asked = run, []

    def download_artifacts(self, run_id, path, folder):
        self.asked.append((run_id, path, folder))
        raise OSError("no such artifact")
