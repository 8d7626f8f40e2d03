import socket
import uuid

import pytest

from rheostat.data.errors import RegistryError
from rheostat.training.registry import EVALUATION_FILE, FORCED_TAG, REASON_TAG, VERDICT_TAG, Registry, Training


@pytest.fixture
def registry(tracking) -> Registry:
    return Registry(tracking.uri, model=f"router-{uuid.uuid4().hex}")


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "made"
    (folder / "static").mkdir(parents=True)
    (folder / "manifest.json").write_text('{"files": {}}')
    (folder / "static" / "w.bin").write_bytes(bytes(range(256)))
    return folder


@pytest.fixture
def trained(registry, bundle) -> str:
    return registry.log_training(Training(bundle_folder=bundle, evaluation={"x": 1}, params={"seed": 0}, metrics={"gain": 0.5}))


def test_a_registered_bundle_comes_back_bit_for_bit(registry, trained, bundle, tmp_path):
    version = registry.register(trained)
    folder = registry.download(version, tmp_path / "got")
    files = {path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()}
    assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == files
    assert all((folder / name).read_bytes() == (bundle / name).read_bytes() for name in files)


def test_a_training_run_carries_its_evaluation_and_digests(tracking, registry, bundle, tmp_path):
    from mlflow import MlflowClient

    table = tmp_path / "t.npz"
    table.write_bytes(b"table")
    run_id = registry.log_training(
        Training(bundle_folder=bundle, evaluation={"x": [1, 2]}, digests={"log": "ab" * 32}, test_table=table, report_html=table)
    )
    run = MlflowClient(tracking.uri).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["sha256.log"] == "ab" * 32
    assert registry.download_artifact(run_id, EVALUATION_FILE, tmp_path / "a").read_text() == '{\n "x": [\n  1,\n  2\n ]\n}'
    assert registry.download_artifact(run_id, "test_table.npz", tmp_path / "a").read_bytes() == b"table"


def test_there_is_no_champion_and_no_version_before_the_first(registry):
    assert registry.champion() is None
    assert registry.latest() is None


def test_versions_count_up_and_the_newest_is_latest(registry, trained):
    assert [registry.register(trained).version for _ in range(2)] == [1, 2]
    latest = registry.latest()
    assert latest is not None
    assert (latest.version, latest.run_id) == (2, trained)


def test_champion_carries_its_reason_and_the_one_before_it(registry, trained):
    for _ in range(2):
        registry.register(trained)
    registry.set_champion(1, "the first")
    registry.set_champion(2, "better by 0.1", forced=True)
    champion = registry.champion()
    assert champion is not None
    assert (champion.version, champion.previous) == (2, 1)
    assert (champion.tags[REASON_TAG], champion.tags[VERDICT_TAG], champion.tags[FORCED_TAG]) == ("better by 0.1", "promoted", "true")


def test_promoting_the_champion_again_keeps_the_one_before_it(registry, trained):
    for _ in range(2):
        registry.register(trained)
    registry.set_champion(1, "a")
    registry.set_champion(2, "b")
    registry.set_champion(2, "c")
    champion = registry.champion()
    assert champion is not None
    assert champion.previous == 1


def test_a_refused_version_says_why_and_the_champion_stays(registry, trained):
    for _ in range(2):
        registry.register(trained)
    registry.set_champion(1, "a")
    registry.refuse(2, "no gain")
    champion = registry.champion()
    assert champion is not None
    assert champion.version == 1
    assert registry.version(2).tags[REASON_TAG] == "no gain"


def test_rollback_goes_back_one_champion_at_a_time(registry, trained):
    for number in (1, 2, 3):
        registry.register(trained)
        registry.set_champion(number, "next")
    assert registry.rollback("bad answers").version == 2
    assert registry.rollback("still").version == 1
    assert registry.version(3).tags[VERDICT_TAG] == "rolled_back"
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback("again")


def test_rollback_never_goes_back_to_what_was_rolled_back(registry, trained):
    """1, then 2, then 1 by name: what leaves as bad does not come back when the next one is bad as well."""
    for _ in range(2):
        registry.register(trained)
    for number in (1, 2, 1):
        registry.set_champion(number, "next")
    assert registry.rollback("1 is bad").version == 2
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback("2 is bad as well")
    assert registry.champion().version == 2


def test_what_was_rolled_back_stays_so_when_it_is_tried_again_and_refused(registry, trained):
    """3 follows 2, 2 gets its turn again and is rolled back, tried once more and refused: then 3 turns out bad as well."""
    for _ in range(3):
        registry.register(trained)
    for number in (1, 2, 3, 2):
        registry.set_champion(number, "next")
    assert registry.rollback("2 is bad").version == 3
    registry.refuse(2, "still no better")
    assert registry.version(2).rolled_back == "still no better"
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback("3 is bad as well")
    registry.set_champion(2, "by force")
    assert registry.version(2).rolled_back is None


def test_an_unknown_version_or_artifact_is_refused_by_name(registry, trained, tmp_path):
    registry.register(trained)
    with pytest.raises(RegistryError, match="99"):
        registry.version(99)
    with pytest.raises(RegistryError, match="none"):
        registry.download_artifact(trained, "none.json", tmp_path)


def test_a_training_that_breaks_off_is_no_finished_run(tracking, registry, bundle, tmp_path):
    from mlflow import MlflowClient

    tag = uuid.uuid4().hex
    with pytest.raises(FileNotFoundError):
        registry.log_training(Training(bundle_folder=bundle, evaluation={}, digests={tag: tag}, test_table=tmp_path / "missing"))
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name("rheostat/training")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`sha256.{tag}` = '{tag}'")
    assert [run.info.status for run in found] == ["FAILED"]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_an_embedded_database_serves_as_well_as_a_server(bundle, tmp_path, capsys):
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow' / 'm.db'}")
    (tmp_path / "mlflow").mkdir()
    version = registry.register(registry.log_training(Training(bundle_folder=bundle, evaluation={})))
    registry.set_champion(version.version, "the first")
    assert registry.champion() == registry.version(version.version)
    folder = registry.download(version, tmp_path / "got")
    assert (folder / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()
    assert capsys.readouterr().out == ""


def test_without_a_server_the_error_comes_at_once_and_says_what_to_do():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(RegistryError, match="does not answer"):
            Registry(uri).champion()
