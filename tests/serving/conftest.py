"""Real sidecar processes in front of fake engines, each a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START_S = 90
PRICES = {"pocket": 1.0, "pocket-large": 5.0}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url, timeout=10):
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return response.read()


def wait_until(condition, seconds=30):
    """Until the condition holds: the time is a bound for a broken run, not a wait."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


class Process:
    """A child process with its output in a file."""

    def __init__(self, command, log):
        self.log = log
        with log.open("ab") as output:
            self.child = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)

    def stop(self, sent=signal.SIGTERM):
        if self.child.poll() is None:
            os.kill(self.child.pid, sent)
        return self.child.wait(timeout=30)

    def end(self):
        """Whatever state it is in."""
        self.stop(signal.SIGKILL)


class Engine(Process):
    """A fake vLLM server."""

    def __init__(self, folder, *, model, options=()):
        self.model = model
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "rheostat.policies.fake_server", "--port", str(self.port), "--model", model, *options]
        super().__init__(command, folder / f"engine-{self.port}.log")
        wait_until(self.answers, START_S)

    def answers(self):
        assert self.child.poll() is None, self.log.read_text()
        try:
            get(f"{self.url}/health")
        except OSError:
            return False
        return True

    def metric(self, name):
        lines = get(f"{self.url}/metrics").decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}{{"))

    @property
    def generated(self):
        return int(self.metric("generation_tokens_total"))

    @property
    def running(self):
        return int(self.metric("num_requests_running"))


class Sidecar(Process):
    """A sidecar process over some engines. `more` is TOML that is added to its config, `program` what python runs."""

    program = ("-m", "rheostat.serving.server")

    def __init__(self, folder, engines, *, more="", store="outcomes.db", server="", store_prompts="full"):
        self.store = folder / store
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        backends = "".join(_backend(f"b{index}", engine.url, engine.model) for index, engine in enumerate(engines))
        config = folder / f"rheostat-{self.port}.toml"
        config.write_text(
            f'{backends}\n[store]\npath = "{self.store}"\nstore_prompts = "{store_prompts}"\n[server]\nport = {self.port}\n{server}\n{more}'
        )
        self.start(config)

    def start(self, config):
        """Run it on a config file, until it answers."""
        super().__init__([sys.executable, *self.program, "--config", str(config)], config.with_name(f"sidecar-{self.port}.log"))
        wait_until(self.answers, START_S)

    def answers(self):
        assert self.child.poll() is None, self.log.read_text()
        try:
            get(f"{self.url}/healthz")
        except OSError:
            return False
        return True

    def end(self):
        try:
            self.stop()
        finally:
            self.stop(signal.SIGKILL)

    def ready(self):
        return json.loads(get(f"{self.url}/readyz"))


def _backend(name, url, model):
    return f'[[backend]]\nname = "{name}"\nurl = "{url}"\nmodel = "{model}"\nusd_per_1m_output = {PRICES.get(model, 1.0)}\n'


@contextmanager
def running(process):
    try:
        yield process
    finally:
        process.end()


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="session")
def engine(work):
    with running(Engine(work, model="pocket")) as started:
        yield started


@pytest.fixture(scope="session")
def large_engine(work):
    with running(Engine(work, model="pocket-large")) as started:
        yield started


@pytest.fixture(scope="session")
def slow_engine(work):
    with running(Engine(work, model="pocket", options=("--token-s", "0.05"))) as started:
        yield started


@pytest.fixture(scope="session")
def sidecar(work, engine, large_engine):
    with running(Sidecar(work, [engine, large_engine])) as started:
        yield started


@pytest.fixture
def wait():
    """The first true value of a function that is asked again and again."""

    def until(function, seconds=30):
        found = []

        def look():
            value = function()
            found[:] = [value]
            return bool(value)

        wait_until(look, seconds)
        return found[0]

    return until
