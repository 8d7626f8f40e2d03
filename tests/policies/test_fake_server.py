import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from rheostat.policies import fake_server
from rheostat.policies.fake_server import FAULTS, REFUSALS, FakeServer, main


async def test_an_answer_in_one_piece_counts_as_a_streamed_one_does():
    server = FakeServer()
    async with TestServer(server.app) as listening, aiohttp.ClientSession() as session:
        body = {"model": "fake", "messages": [{"role": "user", "content": "2+2?"}], "n": 2, "temperature": 0}
        async with session.post(listening.make_url("/v1/chat/completions"), json=body) as response:
            answer = await response.json()
    assert answer["usage"]["completion_tokens"] == server.generated_tokens
    assert answer["choices"][0]["message"] == answer["choices"][1]["message"]


def test_every_refusal_is_a_known_fault():
    assert set(REFUSALS) <= set(FAULTS)


def test_the_command_serves_what_it_is_told(monkeypatch):
    served = []
    monkeypatch.setattr(fake_server.web, "run_app", lambda app, **options: served.append((app, options)))
    main(["--port", "8001", "--model", "a", "--fault", "hang", "--every", "3"])
    ((app, options),) = served
    assert (options["host"], options["port"]) == ("127.0.0.1", 8001)
    assert {"/v1/chat/completions", "/v1/models", "/health", "/metrics"} <= {route.resource.canonical for route in app.router.routes()}


def test_an_unknown_fault_is_refused():
    with pytest.raises(SystemExit):
        main(["--port", "8001", "--fault", "magic"])
