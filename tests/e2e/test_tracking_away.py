"""A sidecar whose MLflow is not there: it serves the last good bundle, and what it did is shipped later, once."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rheostat.data.logs import kept_log
from rheostat.demonstration import held_out_tasks, wait_ready
from rheostat.live import ask_all
from rheostat.policies.processes import free_port, spawn
from rheostat.training.fetch import fetch_segments
from rheostat.training.pipeline import latest_training
from rheostat.training.ship import ship_once
from rheostat.training.tracking_server import TrackingServer
from tests.e2e.conftest import Stack

N_QUERIES = 12


@pytest.fixture
def alone(stack: Stack, tmp_path: Path) -> Iterator[tuple[str, Path, int]]:
    """URL and store of a sidecar on the same engines and bundles, and the port where its MLflow should be."""
    port, tracking_port, store = free_port(8300, 8399), free_port(8400, 8499), tmp_path / "outcomes.db"
    text = (stack.state / "rheostat.toml").read_text()
    for old, new in (
        (str(stack.store), str(store)),
        (stack.mlflow, f"http://127.0.0.1:{tracking_port}"),
        (f"port = {stack.config['server']['port']}", f"port = {port}"),
    ):
        assert old in text
        text = text.replace(old, new)
    config, log = tmp_path / "rheostat.toml", tmp_path / "sidecar.log"
    config.write_text(text)
    process = spawn([sys.executable, "-m", "rheostat", "serve", "--config", str(config), "--no-ship"], log)
    try:
        wait_ready(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}", store, tracking_port
    finally:
        process.end()


def test_without_mlflow_requests_are_served_and_shipped_later_none_twice(
    stack: Stack, alone: tuple[str, Path, int], tmp_path: Path
) -> None:
    url, store, tracking_port = alone
    folder = latest_training(stack.state)
    assert folder is not None
    tasks = held_out_tasks(folder / "test_table.npz", kept_log("pocket"), N_QUERIES, seed=1)

    replies = asyncio.run(ask_all(url, tasks, target_accuracy=0.3))

    assert len({reply.decision_id for reply in replies}) == N_QUERIES
    assert "none" not in {reply.bundle for reply in replies}
    with TrackingServer(tmp_path / "mlflow", tracking_port) as tracking:
        shipped = _ship_all(store, tracking.uri)
        assert sum(segment.rows for segment in shipped) == 2 * N_QUERIES
        assert ship_once(store, tracking.uri) == []
        assert len(fetch_segments(tracking.uri, tmp_path / "segments")) == len(shipped)


def _ship_all(store: Path, uri: str) -> list:
    """Ship until every outcome and its reward has left: the last group commit may still be on its way."""
    shipped, deadline = [], time.monotonic() + 60
    while sum(segment.rows for segment in shipped) < 2 * N_QUERIES and time.monotonic() < deadline:
        shipped += ship_once(store, uri)
        time.sleep(0.1)
    return shipped
