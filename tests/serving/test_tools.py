"""Strategies get their tools through a running sidecar, and what it cannot give is refused before anything is spent."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rheostat.data.errors import ActionError, ConfigError
from rheostat.policies.base import Example
from rheostat.policies.memory import TaskMemory
from rheostat.policies.scorers.answer_features import STATISTICS
from rheostat.policies.scorers.learned import LearnedReward, RewardModel
from rheostat.router.encoder import load_encoder
from rheostat.serving.config import parse
from rheostat.serving.errors import of_error
from rheostat.serving.sidecar import Sidecar as Process
from rheostat.serving.tools import open_toolbox
from tests.serving import bundles, garbage
from tests.serving.conftest import Sidecar, running, wait_until

BACKEND = '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'
EXAMPLES = [Example(f"What is {n} plus {n}?", f"The answer is {2 * n}.") for n in range(9)]
PICK = "pocket/best_of_n(by=prm,n=4)@400"


@pytest.fixture
async def reward():
    """A reward model that finds everything half good; gives its server and what it was asked."""
    asked = []

    async def score(request):
        asked.append(await request.json())
        return web.json_response({"data": [{"score": 0.5}], "usage": {"prompt_tokens": 7}})

    app = web.Application()
    app.router.add_post("/score", score)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), asked


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """The section of a configuration that has a task memory and an encoder."""
    folder = tmp_path_factory.mktemp("tools")
    encoder = bundles._encoder(folder / "encoder")
    loaded = load_encoder(str(encoder))
    TaskMemory(EXAMPLES, loaded.encode, encoder_id=loaded.encoder_id).save(folder / "memory")
    return f'[tools]\nmemory = "{folder / "memory"}"\nencoder = "{encoder}"\n'


async def ask(session, sidecar, action, **fields):
    body = {"model": "auto", "messages": garbage.MESSAGES, "rheostat": {"action": action}, **fields}
    response = await session.post(f"{sidecar.url}/v1/chat/completions", json=body)
    return response.status, await (response.text() if fields.get("stream") else response.json())


async def test_reward_models_examples_and_embeddings_reach_strategies(tmp_path, engine, reward, tools):
    url, asked = reward
    more = f'{tools}\n[[reward]]\nname = "prm"\nkind = "pair"\nmodel = "m"\nurl = "{url}"\n'
    with running(await asyncio.to_thread(Sidecar, tmp_path, [engine], more=more)) as sidecar:
        async with aiohttp.ClientSession() as session:
            status, answer = await ask(session, sidecar, PICK)
            assert (status, answer["rheostat"]["action"]) == (200, PICK)
            assert asked

            assert (await ask(session, sidecar, "pocket/few_shot(k=3)@60"))[0] == 200
            status, stream = await ask(session, sidecar, "pocket/few_shot(k=3)@60", stream=True)
            assert status == 200
            assert "[DONE]" in stream

            before = engine.generated
            for action, words in ((PICK.replace("prm", "orm"), "the scorer 'orm'"), ("pocket/verify(checker=z)@90", "the model 'z'")):
                status, told = await ask(session, sidecar, action)
                assert (status, told["error"]["param"]) == (400, "rheostat.action")
                assert words in told["error"]["message"]
            assert engine.generated == before


async def test_a_bundle_that_asks_for_what_is_not_here_is_refused_once_and_named(tmp_path, engine):
    bundle = bundles.write_bundle(tmp_path / "one", version="one", actions={bundles.COT: (0.7, 60.0), PICK: (0.9, 200.0)})
    more = f'[router]\nbundle = "{bundle}"\ncache = "{tmp_path / "cache"}"\npoll_s = 0.1\n'
    with running(await asyncio.to_thread(Sidecar, tmp_path, [engine], more=more)) as sidecar:
        await asyncio.to_thread(wait_until, lambda: sidecar.ready()["reload"]["error"])
        status = sidecar.ready()
        assert status["bundle"] == "none"
        assert "does not fit this configuration" in status["reload"]["error"]
        assert "'prm'" in status["reload"]["error"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (f'[router]\nfallback = "{PICK}"\n', r"router\.fallback: .*the scorer 'prm'"),
        ('[router]\nfallback = "pocket/few_shot(k=2)@90"\n', "tools.memory"),
        ('[tools]\nmemory = "nowhere"\nencoder = "{encoder}"\n', "no task memory at nowhere"),
    ],
)
def test_a_configuration_that_asks_for_what_it_does_not_have_does_not_start(tmp_path, more, words):
    encoder = bundles._encoder(tmp_path / "encoder")
    text = f'{BACKEND}[store]\npath = "{tmp_path / "o.db"}"\n' + more.replace("{encoder}", str(encoder))
    with pytest.raises(ConfigError, match=words):
        Process(parse(text), environ={})


async def test_free_texts_are_compared_only_where_an_encoder_is_named(tools):
    async with AsyncExitStack() as stack:
        bare = open_toolbox(parse(BACKEND), environ={}, stack=stack)
        full = open_toolbox(parse(BACKEND + tools), environ={}, stack=stack)

    assert (bare.embed, bare.memory, bare.scorers) == (None, None, {})
    assert full.embed is not None
    assert full.memory is not None
    assert full.embed(["what is this"]).shape == (1, bundles.DIMENSION)


def test_a_trained_verifier_is_the_orm_of_the_encoder_it_was_trained_with(tmp_path, monkeypatch):
    encoder = load_encoder(str(bundles._encoder(tmp_path / "encoder")))
    monkeypatch.setattr("rheostat.router.encoder.load_encoder", lambda name, cache_folder: encoder)
    width, dimension = 2 + len(STATISTICS), bundles.DIMENSION
    arrays = {name: np.ones((1, dimension)) for name in ("question_directions", "answer_directions")}
    arrays |= {"mean": np.zeros(width), "scale": np.ones(width), "weights": np.zeros(width), "bias": np.zeros(1)}

    def opened(encoder_id):
        folder = tmp_path / encoder_id.replace(":", "-")
        RewardModel(arrays, trees=None, slope=1.0, intercept=0.0, encoder_id=encoder_id).save(folder)
        return open_toolbox(parse(f'{BACKEND}[tools]\nverifier = "{folder}"\n'), environ={}, stack=AsyncExitStack())

    assert isinstance(opened(encoder.encoder_id).scorers["orm"], LearnedReward)
    with pytest.raises(ConfigError, match="train it again"):
        opened("static:other")


def test_an_action_whose_model_was_taken_away_meanwhile_is_unavailable_and_not_our_fault():
    told = of_error(ActionError("pocket/verify(checker=z)@90 asks for the model 'z', here are: pocket"))

    assert (told.status, "retry-after" in told.headers) == (503, True)
    assert b"action_unavailable" in told.body
