from collections.abc import Iterator
from pathlib import Path

import pytest

from rheostat.training.tracking_server import TrackingServer


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A real MLflow over HTTP, started once."""
    folder: Path = tmp_path_factory.mktemp("mlflow")
    with TrackingServer(folder) as server:
        yield server
