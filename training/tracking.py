"""The way to MLflow: a client for a tracking URI, its errors in our words, and a bound on waiting for a dead server.

MLflow's own client retries for minutes when nothing answers, and its limits are process-wide environment variables.
So a quick look at the server's health comes before every group of calls. mlflow is imported on first use.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import math
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rheostat.data.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

HEALTH_TIMEOUT_S = 3.0
REPORTS = "rheostat/reports"
REPORT_FILE = "report.json"
_MOST_METRICS = 1000  # in one call
_NOT_IN_NAMES = re.compile(r"[^\w\-. /]")
_SQLITE = "sqlite:///"


def is_healthy(uri: str, timeout_s: float = HEALTH_TIMEOUT_S) -> bool:
    """Whether an MLflow server answers at this URI; always true of a database URI."""
    if not uri.startswith(("http://", "https://")):
        return True
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout_s) as answer:  # noqa: S310 (scheme checked above)
            return bool(answer.status == 200)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False


@contextlib.contextmanager
def mlflow_client(uri: str) -> Iterator[MlflowClient]:
    """A client that was reachable a moment ago; whatever MLflow raises inside comes out as a RegistryError.

    Raises:
        RegistryError: no server answers at `uri`, or it refuses.
    """
    if not is_healthy(uri):
        raise RegistryError(f"MLflow does not answer at {uri}: start it (rheostat up), or correct the tracking URI")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException  # what MLflow's artifact transfers let through

    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, RequestException) as error:
        raise RegistryError(f"MLflow at {uri} refused: {error}") from error


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of an experiment, made if it is missing; two processes may ask at the same time."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        with contextlib.suppress(MlflowException):  # another process may have made it just now
            return str(client.create_experiment(name, artifact_location=_artifact_location(client.tracking_uri)))
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise RegistryError(f"experiment {name!r} cannot be used: restore it in MLflow if it was deleted")
    return str(experiment.experiment_id)


def _artifact_location(uri: str) -> str | None:
    """Beside a SQLite database; MLflow's own default is a folder where the process happens to run. A server decides itself."""
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).resolve().parent / "artifacts").as_uri()


@contextlib.contextmanager
def logged_run(client: MlflowClient, experiment: str, *, tags: Mapping[str, str], name: str | None = None) -> Iterator[str]:
    """A run that ends as FINISHED, or as FAILED when the body raises, so that half a run is never taken for a whole one."""
    run_id = str(client.create_run(experiment, tags=dict(tags), run_name=name).info.run_id)
    try:
        yield run_id
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to report
            _end_run(client, run_id, "FAILED")
        raise
    _end_run(client, run_id, "FINISHED")


def _end_run(client: MlflowClient, run_id: str, status: str) -> None:
    """MLflow prints links to standard output here, which belongs to the command that is running."""
    with contextlib.redirect_stdout(io.StringIO()):
        client.set_terminated(run_id, status)


def log_report(uri: str, command: str, report: object, *, params: Mapping[str, object], digests: Mapping[str, str]) -> str:
    """Log what a command found as a run of `rheostat/reports`.

    Args:
        uri: where.
        command: names the run.
        report: anything JSON can hold; it becomes the artifact `report.json` and its numbers, lists aside, metrics.
        params: what the command was told.
        digests: sha256 of its inputs, by name.

    Returns:
        The id of the run.

    Raises:
        RegistryError: MLflow is away or refuses.
    """
    from mlflow.entities import Metric, Param

    plain = msgspec.to_builtins(report)
    metrics = [Metric(name, value, 0, 0) for name, value in numbers(plain).items()]
    tags = {"rheostat.command": command, **{f"sha256.{name}": digest for name, digest in digests.items()}}
    with mlflow_client(uri) as client, logged_run(client, experiment_id(client, REPORTS), tags=tags, name=command) as run_id:
        client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])
        for start in range(0, len(metrics), _MOST_METRICS):
            client.log_batch(run_id, metrics=metrics[start : start + _MOST_METRICS])
        client.log_text(run_id, msgspec.json.format(msgspec.json.encode(plain), indent=1).decode(), REPORT_FILE)
    return run_id


def numbers(value: Any, name: str = "") -> dict[str, float]:
    """The finite numbers of nested mappings, named by their path in characters that MLflow allows."""
    if isinstance(value, Mapping):
        return {path: number for key, each in value.items() for path, number in numbers(each, f"{name}/{key}").items()}
    if isinstance(value, int | float) and math.isfinite(value):
        return {_NOT_IN_NAMES.sub("_", name.removeprefix("/")): float(value)}
    return {}
