"""Sidecar processes in front of fake engines that go wrong on demand, while they run.

One group of processes serves many tests: starting them is what takes time. A test says what its engines do, and the
next one begins with engines that are well and a sidecar that has seen so.
"""

import json
import urllib.error
import urllib.request

import aiohttp
import pytest

from rheostat.data.outcomes import OutcomeReader
from tests.serving import garbage
from tests.serving.conftest import Engine, Sidecar, get, running, wait_until

VOTES = "pocket/self_consistency(k=4)@800"
CHAT = {"model": "auto", "messages": garbage.MESSAGES}


class FaultyEngine(Engine):
    """A fake engine that can be told what to do wrong."""

    def does(self, *faults, **state):
        """From the next call on: these faults in turn, and this `waiting` or `healthy`. Returns calls and last headers."""
        body = json.dumps({**({"faults": faults} if faults else {}), **state}).encode()
        request = urllib.request.Request(f"{self.url}/control", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    @property
    def calls(self):
        return self.does()["calls"]


class Stack:
    """A sidecar and its engines."""

    def __init__(self, sidecar, *engines):
        self.sidecar = sidecar
        self.engines = engines

    def heal(self):
        """Engines well, and the sidecar sure of it."""
        for engine in self.engines:
            engine.does("ok", waiting=0, healthy=True)
        wait_until(lambda: all(self.metric("rheostat_backend_up", backend=f"b{index}") for index in range(len(self.engines))))
        wait_until(lambda: post_now(self.sidecar) == 200)

    def metric(self, name, **labels):
        return metric(self.sidecar, name, **labels)

    def outcomes(self):
        return outcomes(self.sidecar)


def post_now(sidecar):
    request = urllib.request.Request(f"{sidecar.url}/v1/chat/completions", json.dumps(CHAT).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def metric(sidecar, name, **labels):
    """The value of one series, added up over the labels not given; 0 where there is none."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = get(f"{sidecar.url}/metrics").decode().splitlines()
    found = [line for line in lines if line.startswith((f"{name}{{", f"{name} ")) and all(want in line for want in wanted)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def outcomes(sidecar):
    with OutcomeReader(sidecar.store) as store:
        return [row.outcome for row in store.rows_after(0, 100_000) if row.outcome is not None]


def n_decisions(sidecar):
    with OutcomeReader(sidecar.store) as store:
        return len(list(store.rows_after(0, 100_000)))


async def post(sidecar, session=None, headers=None, **fields):
    """Status, headers and body of one chat completion."""
    if session is None:
        async with aiohttp.ClientSession() as own:
            return await post(sidecar, own, headers, **fields)
    async with session.post(f"{sidecar.url}/v1/chat/completions", json={**CHAT, **fields}, headers=headers) as response:
        return response.status, response.headers, await response.read()


def is_openai_error(body):
    error = json.loads(body)["error"]
    return set(error) == {"message", "type", "param", "code"} and bool(error["message"])


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def single_processes(folder):
    with running(FaultyEngine(folder, model="pocket")) as engine, running(Sidecar(folder, [engine], store="single.db")) as sidecar:
        yield Stack(sidecar, engine)


@pytest.fixture(scope="session")
def pair_processes(folder):
    # Slow enough that what it says comes piece by piece, and a fault half way comes after a part was sent.
    slow = ("--token-s", "0.004")
    with (
        running(FaultyEngine(folder, model="pocket", options=slow)) as first,
        running(FaultyEngine(folder, model="pocket", options=slow)) as second,
    ):
        # Every test asks a few times only, which leaves a share of calls no room: what the share does is tested by itself.
        more = "[pool]\nprobe_s = 0.2\nprefix_affinity = false\nretry_share = 1.0\n"
        with running(Sidecar(folder, [first, second], store="pair.db", more=more)) as sidecar:
            yield Stack(sidecar, first, second)


@pytest.fixture
def single(single_processes):
    """One engine behind one sidecar, both well."""
    single_processes.heal()
    return single_processes


@pytest.fixture
def pair(pair_processes):
    """Two replicas of one model behind one sidecar, all well."""
    pair_processes.heal()
    return pair_processes
