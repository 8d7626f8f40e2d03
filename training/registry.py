"""The registry of bundles in MLflow: training runs, versions of `rheostat-router`, and the alias `champion`.

A version's files are plain artifacts of its training run under `bundle/`; nobody loads them through mlflow. Tags say
why a version became champion or did not, and which was champion before it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rheostat.data.errors import RegistryError
from rheostat.training.tracking import experiment_id, logged_run, mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT = "rheostat/training"
MODEL = "rheostat-router"
ALIAS = "champion"
BUNDLE_FOLDER = "bundle"
EVALUATION_FILE = "evaluation.json"
TEST_TABLE_FILE = "test_table.npz"
REPORT_FILE = "report.html"

VERDICT_TAG = "rheostat.verdict"
REASON_TAG = "rheostat.reason"
PREVIOUS_TAG = "rheostat.previous"
FORCED_TAG = "rheostat.forced"
ROLLED_BACK = "rolled_back"

_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What one training leaves behind: files, and what the run's page shows.

    `digests` maps each input's name to its sha256; `evaluation` is anything JSON can hold.
    """

    bundle_folder: Path
    evaluation: Mapping[str, Any]
    params: Mapping[str, Any] = {}
    metrics: Mapping[str, float] = {}
    digests: Mapping[str, str] = {}
    report_html: Path | None = None
    test_table: Path | None = None


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A registered bundle. `source` is the URI of its files."""

    version: int
    run_id: str
    source: str
    created_s: float
    tags: dict[str, str]

    @property
    def previous(self) -> int | None:
        """The version that was champion when this one became it."""
        text = self.tags.get(PREVIOUS_TAG, "")
        return int(text) if text.isdigit() else None

    @property
    def rolled_back(self) -> str | None:
        """What was said last of a champion that was rolled back; empty where nobody said, None of any other version."""
        return self.tags.get(REASON_TAG, "") if self.tags.get(VERDICT_TAG) == ROLLED_BACK else None


class Registry:
    """Bundles in the MLflow at `uri`, an `http://` server or an SQLAlchemy URI; every method raises RegistryError when it is away."""

    def __init__(self, uri: str, *, model: str = MODEL) -> None:
        self.uri = uri
        self.model = model

    def log_training(self, training: Training) -> str:
        """Log a training as one run of `rheostat/training`. Returns its id."""
        tags = {f"sha256.{name}": digest for name, digest in training.digests.items()}
        with mlflow_client(self.uri) as client, logged_run(client, experiment_id(client, EXPERIMENT), tags=tags) as run_id:
            _log_values(client, run_id, training)
            client.log_artifacts(run_id, str(training.bundle_folder), BUNDLE_FOLDER)
            _log_file(client, run_id, EVALUATION_FILE, json.dumps(training.evaluation, indent=1).encode())
            for path, name in ((training.test_table, TEST_TABLE_FILE), (training.report_html, REPORT_FILE)):
                if path is not None:
                    _log_file(client, run_id, name, path.read_bytes())
        return run_id

    def register(self, run_id: str, *, description: str = "") -> Version:
        """Make the bundle of a training run a new version of the model."""
        with mlflow_client(self.uri) as client:
            self._ensure_model(client)
            source = f"{client.get_run(run_id).info.artifact_uri}/{BUNDLE_FOLDER}"
            return _version(client.create_model_version(self.model, source, run_id=run_id, description=description))

    def champion(self) -> Version | None:
        """The version the alias points to; None before the first promotion."""
        from mlflow.exceptions import MlflowException

        with mlflow_client(self.uri) as client:
            try:
                return _version(client.get_model_version_by_alias(self.model, ALIAS))
            except MlflowException as error:
                if error.error_code in _ABSENT:
                    return None
                raise

    def latest(self) -> Version | None:
        """The newest version; None where nothing was registered."""
        with mlflow_client(self.uri) as client:
            found = client.search_model_versions(f"name = '{self.model}'", max_results=1000)
            return max(map(_version, found), key=lambda version: version.version, default=None)

    def version(self, number: int) -> Version:
        """One version by its number."""
        with mlflow_client(self.uri) as client:
            return _version(client.get_model_version(self.model, str(number)))

    def set_champion(self, number: int, reason: str, *, forced: bool = False) -> None:
        """Point the alias at a version, and write why; tags first, so that no champion is without its reason."""
        current = self.champion()
        with mlflow_client(self.uri) as client:
            if current is not None and current.version != number:
                client.set_model_version_tag(self.model, str(number), PREVIOUS_TAG, str(current.version))
            self._tag(client, number, "promoted", reason, forced=forced)
            client.set_registered_model_alias(self.model, ALIAS, str(number))

    def refuse(self, number: int, reason: str) -> None:
        """Write why a version did not become champion; one that was rolled back stays known as that."""
        verdict = "refused" if self.version(number).rolled_back is None else ROLLED_BACK
        with mlflow_client(self.uri) as client:
            self._tag(client, number, verdict, reason)

    def rollback(self, reason: str) -> Version:
        """Point the alias at the last champion before this one that was not rolled back, and write why on the one that leaves.

        Raises:
            RegistryError: there is no champion, or none before it.
        """
        current = self.champion()
        earlier = None if current is None else self._before(current)
        if current is None or earlier is None:
            raise RegistryError(f"{self.model} has no earlier champion to go back to: promote a version instead")
        with mlflow_client(self.uri) as client:
            self._tag(client, current.version, ROLLED_BACK, reason)
            client.set_registered_model_alias(self.model, ALIAS, str(earlier.version))
        return earlier

    def _before(self, champion: Version) -> Version | None:
        """The champion before this one; of versions that took turns, none that was found to be bad."""
        seen, number = {champion.version}, champion.previous
        while number is not None and number not in seen:
            earlier = self.version(number)
            if earlier.rolled_back is None:
                return earlier
            seen.add(number)
            number = earlier.previous
        return None

    def download(self, version: Version, folder: Path) -> Path:
        """Fetch a version's files below `folder` (made if missing). Returns the bundle's folder; verify it by loading it."""
        return self.download_artifact(version.run_id, BUNDLE_FOLDER, folder)

    def download_artifact(self, run_id: str, name: str, folder: Path) -> Path:
        """Fetch one artifact (a file or a folder) of a run below `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        with mlflow_client(self.uri) as client:
            try:
                return Path(client.download_artifacts(run_id, name, str(folder)))
            except OSError as error:
                raise RegistryError(f"run {run_id} has no artifact {name!r} that can be fetched: {error}") from error

    def _ensure_model(self, client: MlflowClient) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(self.model, description="Bundles of the Rheostat router.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _tag(self, client: MlflowClient, number: int, verdict: str, reason: str, *, forced: bool = False) -> None:
        for key, value in ((REASON_TAG, reason), (FORCED_TAG, str(forced).lower()), (VERDICT_TAG, verdict)):
            client.set_model_version_tag(self.model, str(number), key, value)


def _log_values(client: MlflowClient, run_id: str, training: Training) -> None:
    from mlflow.entities import Metric, Param

    metrics = [Metric(name, float(value), 0, 0) for name, value in training.metrics.items()]
    client.log_batch(run_id, metrics=metrics, params=[Param(name, str(value)) for name, value in training.params.items()])


def _log_file(client: MlflowClient, run_id: str, name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        client.log_artifact(run_id, str(path))


def _version(found: ModelVersion) -> Version:
    return Version(
        version=int(found.version),
        run_id=found.run_id or "",
        source=found.source or "",
        created_s=found.creation_timestamp / 1000,
        tags=dict(found.tags),
    )
