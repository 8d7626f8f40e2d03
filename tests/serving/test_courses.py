"""Several actions on one query, and learned stop rules, through a running sidecar."""

import aiohttp
import numpy as np
import pytest

from rheostat.router.courses import Plan
from rheostat.router.predictor import PriceVector
from rheostat.router.rules import MultiplierPath
from rheostat.router.stopping import StopModel, StopPolicy
from tests.router.test_courses import plan as made_plan
from tests.router.test_stopping import always
from tests.serving import garbage
from tests.serving.bundles import ACTIONS, COT, VOTES, write_bundle
from tests.serving.conftest import Sidecar, running

LEARNED = "pocket/self_consistency(k=8,stop=learned)@1536"
CHAT = {"model": "auto", "messages": garbage.MESSAGES}


def plan():
    """One chain, then a vote, whatever the answers; never dearer than one action."""
    path = MultiplierPath(np.array([1.0]), np.array([0.99]), np.array([1e-12]))
    return Plan(made_plan((6.0, 5.0)).policy, (1, 2), path, PriceVector(np.full(2, 1e-6), np.zeros(2)))


def at_once():
    """Stops after the first look."""
    return StopModel(StopPolicy((None, always(0), *(None,) * 5), 0), ())


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory, engine):
    folder = tmp_path_factory.mktemp("courses")
    bundle = write_bundle(
        folder / "one", version="one", actions={**ACTIONS, LEARNED: (0.9, 200.0)}, plan=plan(), stops={LEARNED: at_once()}
    )
    with running(Sidecar(folder, [engine], more=f'[router]\nbundle = "{bundle}"\ncache = "{folder / "cache"}"\n')) as started:
        yield started


async def ask(sidecar, **options):
    async with aiohttp.ClientSession() as session:
        response = await session.post(f"{sidecar.url}/v1/chat/completions", json={**CHAT, "rheostat": options})
        return response.status, await response.json()


async def test_the_answer_tells_its_path_and_pays_for_all_of_it(sidecar, engine):
    before = engine.generated
    status, answer = await ask(sidecar, target_accuracy=0.9)
    told = answer["rheostat"]
    assert (status, told["rule"]) == (200, "sequential")
    assert [step["action"] for step in told["path"]] == [COT, VOTES]
    assert sum(step["tokens"] for step in told["path"]) == answer["usage"]["completion_tokens"] == engine.generated - before
    assert all(0 < step["p_correct"] < 1 for step in told["path"])
    assert told["cost_usd"] == pytest.approx(answer["usage"]["completion_tokens"] * 1e-6)


async def test_the_cap_of_the_request_holds_for_all_steps(sidecar):
    _, answer = await ask(sidecar, target_accuracy=0.9, max_tokens_total=300)
    assert [step["action"] for step in answer["rheostat"]["path"]] == [COT]
    assert answer["usage"]["completion_tokens"] <= 300


async def test_a_stream_of_several_actions_ends_with_the_same_block(sidecar):
    async with aiohttp.ClientSession() as session:
        response = await session.post(
            f"{sidecar.url}/v1/chat/completions", json={**CHAT, "stream": True, "rheostat": {"target_accuracy": 0.9}}
        )
        text = (await response.read()).decode()
    assert f'"action":"{COT}"' in text
    assert f'"action":"{VOTES}"' in text
    assert text.endswith("data: [DONE]\n\n")


async def test_a_learned_stop_rule_of_the_bundle_ends_sampling(sidecar):
    _, answer = await ask(sidecar, action=LEARNED)
    assert answer["rheostat"]["stop_reason"] == "learned"
    assert answer["rheostat"]["samples"] == 2
    assert answer["rheostat"]["path"] == []
