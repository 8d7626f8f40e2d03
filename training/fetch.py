"""Segments back from MLflow: what every sidecar shipped, as files for a training."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rheostat.data.errors import RegistryError
from rheostat.training.segment_summary import HASH_TAG, ID_TAG
from rheostat.training.ship import ARTIFACT_FOLDER, EXPERIMENT
from rheostat.training.tracking import experiment_id, mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
_SEGMENT_ID = re.compile(r"seg-[0-9a-f]{20}")
_WAY_OUT = "delete the run in MLflow, or train without what was shipped (--no-live)"


def fetch_segments(tracking_uri: str, folder: Path, *, after_s: float = 0.0) -> list[Path]:
    """The segments shipped after a Unix time, one file each, oldest first; files that are there already are kept.

    Raises:
        RegistryError: MLflow is away or refuses, or a run is no segment that Rheostat shipped.
    """
    with mlflow_client(tracking_uri) as client:
        by_hash = {run.data.tags[HASH_TAG]: run for run in _finished_runs(client, after_s) if HASH_TAG in run.data.tags}
        return [_fetched(client, run, folder) for run in by_hash.values()]


def _finished_runs(client: MlflowClient, after_s: float) -> Iterator[Run]:
    experiment = experiment_id(client, EXPERIMENT)
    query = f"attributes.status = 'FINISHED' and attributes.start_time > {int(after_s * 1000)}"
    token: str | None = None
    while True:
        page = client.search_runs([experiment], query, max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _fetched(client: MlflowClient, run: Run, folder: Path) -> Path:
    """The file appears by a rename: a download that breaks off is not taken for a segment later."""
    path = folder / f"{_segment_id(run)}.parquet"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            Path(client.download_artifacts(run.info.run_id, f"{ARTIFACT_FOLDER}/{path.name}", scratch)).replace(path)
        except OSError as error:
            raise RegistryError(f"run {run.info.run_id} has no {path.name} that can be fetched ({error}): {_WAY_OUT}") from error
    return path


def _segment_id(run: Run) -> str:
    """The segment's name, which becomes a file's: anybody who reaches MLflow may write tags, so it is not trusted."""
    name = str(run.data.tags.get(ID_TAG, ""))
    if not _SEGMENT_ID.fullmatch(name):
        raise RegistryError(f"run {run.info.run_id} calls its segment {name!r}, which is no name of a segment: {_WAY_OUT}")
    return name
