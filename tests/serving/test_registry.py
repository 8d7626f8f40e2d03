"""The champion as a real MLflow server serves it, followed by a real sidecar."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from rheostat.data.errors import BundleError, RegistryError
from rheostat.router.bundle import Bundle
from rheostat.serving.registry import MlflowSource
from rheostat.training.registry import Registry, Training
from rheostat.training.tracking_server import TrackingServer
from tests.serving import garbage
from tests.serving.bundles import write_bundle
from tests.serving.conftest import Sidecar, running, wait_until

MODEL = "rheostat-router"
CHAT = {"model": "auto", "messages": garbage.MESSAGES}


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    with TrackingServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


def promote(tracking, bundle):
    registry = Registry(tracking.uri)
    version = registry.register(registry.log_training(Training(bundle_folder=bundle, evaluation={})))
    registry.set_champion(version.version, "a test")
    return str(version.version)


@asynccontextmanager
async def load(sidecar, clients=4):
    """Clients that ask again and again meanwhile. Gives the statuses and the bundles they saw, counted."""
    statuses, bundles, stop = Counter(), Counter(), asyncio.Event()

    async def client(session):
        while not stop.is_set():
            async with session.post(f"{sidecar.url}/v1/chat/completions", json=CHAT) as response:
                statuses[response.status] += 1
                bundles[(await response.json())["rheostat"]["bundle"]] += 1

    async with aiohttp.ClientSession() as session:
        asking = [asyncio.create_task(client(session)) for _ in range(clients)]
        try:
            yield statuses, bundles
        finally:
            stop.set()
            await asyncio.gather(*asking)


async def test_the_champion_is_followed_under_load_and_kept_for_a_start_without_mlflow(tmp_path, tracking, engine):
    source = MlflowSource(tracking.uri, model=MODEL, alias="champion")
    assert await source.latest() is None
    first = await asyncio.to_thread(promote, tracking, write_bundle(tmp_path / "one", version="one"))
    assert await source.latest() == first
    await source.fetch(first, tmp_path / "fetched")
    assert Bundle.load(tmp_path / "fetched").version == "one"
    assert await MlflowSource(tracking.uri, model=MODEL, alias="challenger").latest() is None

    def config(uri):
        return f'[router]\ncache = "{tmp_path / "cache"}"\n[mlflow]\ntracking_uri = "{uri}"\npoll_s = 0.2\n'

    with running(Sidecar(tmp_path, [engine], more=config(tracking.uri))) as sidecar:
        assert sidecar.ready()["bundle"] == "one"
        async with load(sidecar) as (statuses, bundles):
            await asyncio.to_thread(wait_until, lambda: bundles["one"] > 10)
            second = await asyncio.to_thread(promote, tracking, write_bundle(tmp_path / "two", version="two"))
            await asyncio.to_thread(wait_until, lambda: bundles["two"] > 10, 60)
        assert (set(statuses), set(bundles)) == ({200}, {"one", "two"})
        assert sidecar.ready()["reload"]["version"] == second
    with running(Sidecar(tmp_path, [engine], more=config("http://127.0.0.1:1"), store="later.db")) as sidecar:
        status = sidecar.ready()
        assert (status["bundle"], status["ready"]) == ("two", True)
        assert "out of reach" in status["reload"]["error"]
        async with aiohttp.ClientSession() as session:
            response = await session.post(f"{sidecar.url}/v1/chat/completions", json=CHAT)
            assert (await response.json())["rheostat"]["bundle"] == "two"


@pytest.fixture
async def odd_server():
    """A server that gives canned answers by path."""
    answers = {}

    async def answer(request):
        return web.Response(**answers.get(request.path, {"status": 500, "text": "broken"}))

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", answers
    await runner.cleanup()


async def test_what_is_no_answer_of_mlflow_is_a_registry_error(odd_server):
    uri, answers = odd_server
    source = MlflowSource(uri, model=MODEL, alias="champion", token="x")
    with pytest.raises(RegistryError, match="answered 500"):
        await source.latest()
    answers["/api/2.0/mlflow/registered-models/alias"] = {"text": "<html>"}
    with pytest.raises(RegistryError, match="something else than expected"):
        await source.latest()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "has no files"),
        ([{"path": "bundle/../../evil", "file_size": 1}], "leads out of the bundle"),
        ([{"path": "bundle/x", "file_size": 10**12}], "more or larger files"),
        ([{"path": f"bundle/{i}", "file_size": 1} for i in range(500)], "more or larger files"),
    ],
)
async def test_artifacts_that_are_no_bundle_are_refused(odd_server, tmp_path, files, says):
    uri, answers = odd_server
    answers["/api/2.0/mlflow/registered-models/alias"] = {"text": '{"model_version": {"version": "3", "run_id": "r"}}'}
    answers["/api/2.0/mlflow/artifacts/list"] = {"text": json.dumps({"files": files})}
    answers["/get-artifact"] = {"text": "x"}
    source = MlflowSource(uri, model=MODEL, alias="champion")
    assert await source.latest() == "3"
    with pytest.raises(BundleError, match=says):
        await source.fetch("3", tmp_path / "fetched")
