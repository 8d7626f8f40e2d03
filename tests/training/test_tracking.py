import json
import uuid
from pathlib import Path

import pytest

from rheostat.data.errors import RegistryError
from rheostat.training.tracking import REPORT_FILE, REPORTS, experiment_id, is_healthy, log_report, logged_run, mlflow_client, numbers


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


def test_a_report_is_a_run_with_params_metrics_digests_and_the_whole_as_artifact(tracking, tmp_path):
    report = {"miss_rate": 0.1, "feasible": True, "none": None, "points": [{"cost": 1.0}], "by": {"small/vote(k=8)@64": {"n": 3}}}
    run_id = log_report(tracking.uri, "guarantee", report, params={"target": 0.8, "table": "log.parquet"}, digests={"log.parquet": "ab"})
    with mlflow_client(tracking.uri) as client:
        run = client.get_run(run_id)
        content = Path(client.download_artifacts(run_id, REPORT_FILE, str(tmp_path))).read_text()
        name = client.get_experiment(run.info.experiment_id).name
    assert name == REPORTS
    assert run.data.params == {"target": "0.8", "table": "log.parquet"}
    assert run.data.metrics == {"miss_rate": 0.1, "feasible": 1.0, "by/small/vote_k_8__64/n": 3.0}
    assert (run.data.tags["rheostat.command"], run.data.tags["sha256.log.parquet"]) == ("guarantee", "ab")
    assert json.loads(content) == report


def test_more_numbers_than_one_call_takes_are_all_logged(tracking):
    run_id = log_report(tracking.uri, "backtest", {str(i): i for i in range(1200)}, params={}, digests={})
    with mlflow_client(tracking.uri) as client:
        assert len(client.get_run(run_id).data.metrics) == 1200


def test_numbers_are_finite_and_named_by_their_path():
    assert numbers({"a": {"b c": 1, "d": float("nan")}, "e": "f", "g": [1]}) == {"a/b c": 1.0}
