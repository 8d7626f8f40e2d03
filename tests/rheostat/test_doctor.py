"""The doctor in front of fake engines, one of which says something else as soon as it samples."""

import asyncio
import json
import threading
from contextlib import contextmanager

import pytest
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from rheostat.cli import app
from rheostat.data.tasks import load_tasks
from rheostat.policies.fake import FakeModel
from rheostat.policies.fake_server import FakeServer

N = 80
TASKS = load_tasks("pocket", n=N, seed=0)
PLAIN = FakeModel({task.text: {task.reference: 0.74, "0": 0.26} for task in TASKS})
DESTROYED = FakeModel({task.text: {task.reference: 0.01, "": 0.99} for task in TASKS})


@contextmanager
def served(*models):
    """A server for each (name, what it says), in a thread of their own; gives their addresses."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    servers = [TestServer(FakeServer([name], model=says).app) for name, says in models]
    try:
        for server in servers:
            run(server.start_server())
        yield [str(server.make_url("")).rstrip("/") for server in servers]
    finally:
        for server in servers:
            run(server.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def examine(folder, urls, profile=True):
    config = folder / "rheostat.toml"
    backends = f'[[backend]]\nname = "one"\nurl = "{urls[0]}"\nmodel = "plain"\n'
    if profile:
        backends += f'[[backend]]\nname = "two"\nurl = "{urls[1]}"\nmodel = "fast"\nprofile_of = "plain"\n'
    config.write_text(f'{backends}[store]\npath = "{folder / "outcomes.db"}"\n[router]\ncache = "{folder / "cache"}"\n')
    result = CliRunner().invoke(app, ["doctor", str(config), "--n", str(N), "--json", str(folder / "found.json")])
    found = json.loads((folder / "found.json").read_text())
    return result, {(check["part"], check["what"]): check for check in found}


@pytest.mark.parametrize(("says", "state", "status"), [(PLAIN, "ok", 0), (DESTROYED, "fail", 1)])
def test_an_accelerated_engine_is_admitted_only_when_it_says_what_the_plain_one_says(tmp_path, says, state, status):
    with served(("plain", PLAIN), ("fast", says)) as urls:
        result, found = examine(tmp_path, urls)
    check = found["two", "as one"]
    assert check["state"] == state, check
    assert result.exit_code == status
    if state == "fail":
        assert "not as the plain engine" in check["found"]
        assert "do not serve this profile" in check["do"]


def test_everything_is_looked_at_and_what_is_off_says_what_to_do(tmp_path):
    with served(("plain", PLAIN)) as urls:
        result, found = examine(tmp_path, urls, profile=False)
    assert result.exit_code == 0
    assert {("one", feature) for feature in ("model", "usage in stream", "seed", "cancel", "logprobs", "pooling")} <= set(found)
    assert {part for part, _ in found} == {"config", "one", "bundle", "store", "mlflow", "access"}
    assert all(check["do"] for check in found.values() if check["state"] == "off")
    assert "examination" in result.output


def test_an_engine_that_is_down_is_status_one_and_a_sentence(tmp_path, unused_tcp_port):
    result, found = examine(tmp_path, [f"http://127.0.0.1:{unused_tcp_port}"], profile=False)
    assert result.exit_code == 1
    assert "cannot be reached" in found["one", "model"]["found"]


def test_a_profile_of_nothing_is_a_sentence(tmp_path):
    config = tmp_path / "rheostat.toml"
    config.write_text('[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\nprofile_of = "other"\n')
    assert "is a profile of 'other'" in str(CliRunner().invoke(app, ["doctor", str(config)]).exception)
