import uuid

import pytest

from rheostat.data.errors import RegistryError
from rheostat.training.tracking import experiment_id, is_healthy, logged_run, mlflow_client


def test_a_server_is_healthy_and_an_empty_port_is_not(tracking):
    assert is_healthy(tracking.uri)
    assert not is_healthy("http://127.0.0.1:9")


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_a_database_needs_no_server_and_keeps_artifacts_beside_it(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    uri = f"sqlite:///{tmp_path / 'm.db'}"
    assert is_healthy(uri)
    with mlflow_client(uri) as client:
        experiment = experiment_id(client, "a")
        assert experiment == experiment_id(client, "a")
        with logged_run(client, experiment, tags={}) as run_id:
            client.log_text(run_id, "x", "x.txt")
    assert [path.name for path in (tmp_path / "artifacts").rglob("*.txt")] == ["x.txt"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_mlflow_refuses_is_a_registry_error_with_its_reason(tracking):
    with pytest.raises(RegistryError, match="no-such-run"), mlflow_client(tracking.uri) as client:
        client.get_run("no-such-run")


def test_a_deleted_experiment_is_named(tracking):
    name = uuid.uuid4().hex
    with mlflow_client(tracking.uri) as client:
        client.delete_experiment(experiment_id(client, name))
        with pytest.raises(RegistryError, match="restore it"):
            experiment_id(client, name)


@pytest.mark.parametrize(("error", "status"), [(None, "FINISHED"), (ZeroDivisionError, "FAILED"), (KeyboardInterrupt, "FAILED")])
def test_a_run_ends_as_its_body_did_and_prints_nothing(tracking, capsys, error, status):
    seen = []

    def body(client):
        with logged_run(client, experiment_id(client, "runs"), tags={}) as run_id:
            seen.append(run_id)
            if error:
                raise error

    with mlflow_client(tracking.uri) as client:
        if error:
            with pytest.raises(error):
                body(client)
        else:
            body(client)
        info = client.get_run(seen[0]).info
    assert info.status == status
    assert info.end_time is not None
    assert capsys.readouterr().out == ""
