"""The way to MLflow: a client for a tracking URI, its errors in our words, and a bound on waiting for a dead server.

MLflow's own client retries for minutes when nothing answers, and its limits are process-wide environment variables.
So a quick look at the server's health comes before every group of calls. mlflow is imported on first use.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rheostat.data.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

HEALTH_TIMEOUT_S = 3.0
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
