import os
import socket

import pytest

from rheostat.data.errors import RegistryError
from rheostat.training.tracking import is_healthy
from rheostat.training.tracking_server import TrackingServer


def test_stopping_ends_the_whole_group_and_twice_does_no_harm(tmp_path):
    server = TrackingServer(tmp_path).start()
    pid = int((tmp_path / "mlflow.pid").read_text())
    assert os.getpgid(pid) == pid
    server.stop()
    server.stop()
    assert not is_healthy(server.uri)
    assert not (tmp_path / "mlflow.pid").exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


def test_a_taken_port_is_refused_by_number(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RegistryError, match=f"port {port} is in use"):
            TrackingServer(tmp_path, port).start()


def test_a_server_that_dies_shows_the_end_of_its_log(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(RegistryError, match=r"ended with code [\s\S]*database"):
        TrackingServer(tmp_path).start()


def test_a_server_that_is_too_slow_is_stopped(tmp_path):
    server = TrackingServer(tmp_path)
    with pytest.raises(RegistryError, match="did not answer within 0 s"):
        server.start(timeout_s=0.0)
    assert not (tmp_path / "mlflow.pid").exists()
