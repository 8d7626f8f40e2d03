import pytest
from aiohttp.test_utils import TestServer

from rheostat.policies.backend import VllmBackend
from rheostat.policies.fake_server import FakeServer
from rheostat.policies.probing import Prober


async def probe(server, model="fake"):
    running = TestServer(server.app)
    await running.start_server()
    try:
        async with VllmBackend("engine", str(running.make_url("")), model=model) as engine:
            return {found.feature: found for found in await Prober(engine, model).run()}
    finally:
        await running.close()


async def test_an_engine_is_asked_about_every_feature():
    found = await probe(FakeServer())
    assert {found[feature].finding for feature in ("model", "usage in stream", "seed", "metrics", "logprobs")} == {"ok"}
    assert found["pooling"].finding == "off"
    assert all(probe.found for probe in found.values())
    assert all(probe.do for probe in found.values() if probe.finding == "fail")


async def test_a_call_that_is_left_frees_the_engine():
    found = await probe(FakeServer(token_s=0.01))
    assert found["cancel"].found.startswith("free after")


async def test_a_name_it_does_not_serve_ends_the_probing():
    found = await probe(FakeServer(models=["other"]))
    assert list(found) == ["model"]
    assert (found["model"].finding, found["model"].do) == ("fail", "set served_model to a name it serves")
    assert "serves other, not fake" in found["model"].found


async def test_an_engine_that_is_not_there_says_what_to_do(unused_tcp_port):
    async with VllmBackend("engine", f"http://127.0.0.1:{unused_tcp_port}") as engine:
        (found,) = await Prober(engine, "fake").run()
    assert found.finding == "fail"
    assert "start the engine" in found.do


@pytest.mark.parametrize(
    ("fault", "feature", "finding"),
    [("no_usage", "usage in stream", "fail"), ("error_500", "usage in stream", "fail"), ("error_500", "logprobs", "off")],
)
async def test_what_a_server_lacks_is_found(fault, feature, finding):
    found = await probe(FakeServer(faults=[fault]))
    assert found[feature].finding == finding
    assert found[feature].do
