"""The shipper: closed segments of the store become runs in MLflow, each exactly once.

A segment is found in MLflow by its hash before it is logged, so a crash between logging and marking repeats nothing,
and a run that a crash left half-done is replaced. While MLflow is away segments wait in the store. One process ships a
store at a time; it never holds up the one that writes it. A segment that the store cannot give holds up no other one: it
is told, and tried again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rheostat.data.errors import RheostatError, StoreError
from rheostat.data.outcomes import OutcomeReader
from rheostat.data.segment_files import export_segment
from rheostat.data.segments import Segment
from rheostat.training.segment_summary import HASH_TAG, segment_metrics, segment_tags
from rheostat.training.tracking import experiment_id, is_healthy, logged_run, mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "rheostat/outcomes"
ARTIFACT_FOLDER = "segment"
MAX_ROWS = 100_000
INTERVAL_S = 10.0
MAX_BACKOFF_S = 120.0
WAIT_S = 30.0
_LOCK_POLL_S = 0.1
_DIGEST_CHARACTERS = 36  # what MLflow keeps of a dataset's digest

_log = logging.getLogger(__name__)


class Shipped(msgspec.Struct, frozen=True, kw_only=True):
    """A segment and the run it is in; `logged` is false where an earlier attempt had already logged it."""

    segment_id: str
    run_id: str
    rows: int
    logged: bool


class NotAllShippedError(StoreError):
    """Some segments could not be read from the store, for `reasons`; `shipped` are the others."""

    def __init__(self, failures: Sequence[StoreError], shipped: Sequence[Shipped]) -> None:
        self.reasons = "; ".join(map(str, failures))
        self.shipped = list(shipped)
        n = len(failures)
        super().__init__(f"{n} of {n + len(shipped)} segments are not shipped and will be tried again: {self.reasons}")


def ship_once(store_path: Path, tracking_uri: str, *, max_rows: int = MAX_ROWS, wait_s: float = WAIT_S) -> list[Shipped]:
    """Close what is finished and ship every closed segment.

    Args:
        max_rows: of a segment.
        wait_s: seconds to wait for another process that is shipping this store.

    Returns:
        The segments shipped by this call, in order.

    Raises:
        NotAllShippedError: the store could not give some segments; the others are shipped.
        StoreError: there is no store, or another process goes on shipping it.
        RegistryError: MLflow is away or refuses; what is closed stays in the store.
    """
    with OutcomeReader(store_path) as store, _only_shipper(store_path, wait_s):
        _close_segments(store, max_rows=max_rows, min_rows=1 if is_healthy(tracking_uri) else max_rows)
        with mlflow_client(tracking_uri) as client:
            experiment = experiment_id(client, EXPERIMENT)
            return _ship_all(client, experiment, store)


def ship_loop(
    store_path: Path,
    tracking_uri: str,
    stop: threading.Event,
    *,
    interval_s: float = INTERVAL_S,
    max_rows: int = MAX_ROWS,
) -> int:
    """Ship every `interval_s` until `stop` is set, and once more then; longer pauses, with jitter, while it fails.

    Returns:
        The number of segments shipped.
    """
    shipped = failures = 0
    told = ""
    while True:
        last = stop.is_set()
        try:
            shipped += len(ship_once(store_path, tracking_uri, max_rows=max_rows))
            failures = 0
        except NotAllShippedError as error:
            shipped, failures = shipped + len(error.shipped), 0
            if error.reasons != told:  # a damaged row stays so, and one warning is enough, however many others went
                _log.warning("%s", error)
            told = error.reasons
        except (RheostatError, OSError) as error:
            failures += 1
            _log.warning("not shipped (attempt %d), segments wait in the store: %s", failures, error)
        if last:
            return shipped
        stop.wait(pause_s(failures, interval_s))


def pause_s(failures: int, interval_s: float) -> float:
    """Seconds until the next attempt: doubling with failures, bounded, a random half of it so that hosts spread out."""
    backoff = min(MAX_BACKOFF_S, interval_s * 2.0**failures)
    return backoff if failures == 0 else backoff * random.uniform(0.5, 1.0)


def _close_segments(store: OutcomeReader, *, max_rows: int, min_rows: int) -> None:
    """While MLflow is away only full segments are closed, so that hours without it do not leave thousands of small ones."""
    while store.close_segment(max_rows=max_rows, min_rows=min_rows) is not None:
        pass


def _ship_all(client: MlflowClient, experiment: str, store: OutcomeReader) -> list[Shipped]:
    shipped: list[Shipped] = []
    failures: list[StoreError] = []
    for segment in store.segments("closed"):
        try:
            shipped.append(_ship(client, experiment, store, segment))
        except StoreError as error:
            failures.append(error)
    if failures:
        raise NotAllShippedError(failures, shipped)
    return shipped


def _ship(client: MlflowClient, experiment: str, store: OutcomeReader, segment: Segment) -> Shipped:
    run_id = _logged_before(client, experiment, segment)
    logged = run_id is None
    if run_id is None:
        run_id = _log_segment(client, experiment, store, segment)
    store.mark_shipped(segment.segment_id, run_id)
    return Shipped(segment_id=segment.segment_id, run_id=run_id, rows=segment.rows, logged=logged)


def _logged_before(client: MlflowClient, experiment: str, segment: Segment) -> str | None:
    """The finished run of this segment; others are what a crash left, and are deleted."""
    finished = None
    for run in client.search_runs([experiment], f"tags.`{HASH_TAG}` = '{segment.sha256}'"):
        if run.info.status == "FINISHED" and finished is None:
            finished = str(run.info.run_id)
        else:
            client.delete_run(run.info.run_id)
    return finished


def _log_segment(client: MlflowClient, experiment: str, store: OutcomeReader, segment: Segment) -> str:
    from mlflow.entities import Metric

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{segment.segment_id}.parquet")
        rows = export_segment(store, segment, path)
        metrics = [Metric(name, value, 0, 0) for name, value in segment_metrics(rows).items()]
        tags = segment_tags(segment, rows, socket.gethostname())
        with logged_run(client, experiment, tags=tags, name=segment.segment_id) as run_id:
            client.log_artifact(run_id, str(path), ARTIFACT_FOLDER)
            client.log_batch(run_id, metrics=metrics)
            _log_dataset(client, run_id, segment)
    return run_id


def _log_dataset(client: MlflowClient, run_id: str, segment: Segment) -> None:
    from mlflow.entities import Dataset, DatasetInput

    source = json.dumps({"uri": f"runs:/{run_id}/{ARTIFACT_FOLDER}/{segment.segment_id}.parquet"})
    profile = json.dumps({"num_rows": segment.rows})
    dataset = Dataset(segment.segment_id, segment.sha256[:_DIGEST_CHARACTERS], "uri", source, profile=profile)
    client.log_inputs(run_id, [DatasetInput(dataset)])


@contextlib.contextmanager
def _only_shipper(store_path: Path, wait_s: float) -> Iterator[None]:
    """Two shippers of one store could each log a segment before the other marks it."""
    descriptor = os.open(store_path.with_name(f"{store_path.name}.ship.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor, store_path, time.monotonic() + wait_s)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, store_path: Path, deadline_s: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline_s:
                raise StoreError(f"the store {store_path} is being shipped by another process: let it finish, or stop it") from error
            time.sleep(_LOCK_POLL_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m rheostat.training.ship`: ships until SIGTERM or SIGINT, then once more."""
    parser = argparse.ArgumentParser(prog="python -m rheostat.training.ship", description="Ship segments of a store to MLflow.")
    parser.add_argument("--store", type=Path, required=True, help="SQLite store of a sidecar")
    parser.add_argument("--tracking-uri", required=True, help="MLflow, as in http://127.0.0.1:5000")
    parser.add_argument("--interval", type=float, default=INTERVAL_S, help="seconds between attempts")
    parser.add_argument("--once", action="store_true", help="ship what there is and end")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one does")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if options.once:
        for shipped in ship_once(options.store, options.tracking_uri):
            print(f"{shipped.segment_id} {shipped.rows} rows in run {shipped.run_id}")
        return 0
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.with_parent:
        threading.Thread(target=_watch_parent, args=(os.getppid(), stop), daemon=True).start()
    ship_loop(options.store, options.tracking_uri, stop, interval_s=options.interval)
    return 0


def _watch_parent(parent: int, stop: threading.Event) -> None:
    """An orphan is handed to another parent: then there is nobody left to ship for, or to stop this process."""
    while not stop.wait(1.0):
        if os.getppid() != parent:
            stop.set()


if __name__ == "__main__":
    sys.exit(main())
