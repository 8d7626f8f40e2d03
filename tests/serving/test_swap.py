"""A running sidecar follows its source while it is asked all the time."""

import asyncio
import shutil
from collections import Counter

import aiohttp
import pytest

from tests.serving import garbage
from tests.serving.bundles import DIRECT, VOTES, write_bundle
from tests.serving.conftest import Sidecar, running, wait_until

CHAT = {"model": "auto", "messages": garbage.MESSAGES}


def replace_bundle(served, bundle):
    """As one would: the new folder is put in place of the old one."""
    old = served.with_name("old")
    if served.exists():
        served.rename(old)
    shutil.copytree(bundle, served.with_name("new"))
    served.with_name("new").rename(served)
    shutil.rmtree(old, ignore_errors=True)


@pytest.fixture
def served(tmp_path):
    return tmp_path / "served" / "bundle"


async def test_a_swap_under_load_fails_no_request_and_a_broken_bundle_changes_nothing(tmp_path, served, engine):
    bundles = [write_bundle(tmp_path / version, version=version) for version in ("one", "two")]
    served.parent.mkdir()
    replace_bundle(served, bundles[0])
    more = f'[router]\nbundle = "{served}"\ncache = "{tmp_path / "cache"}"\npoll_s = 0.1\n'
    with running(Sidecar(tmp_path, [engine], more=more)) as sidecar:
        statuses, seen, stop = Counter(), Counter(), asyncio.Event()

        async def client(session):
            while not stop.is_set():
                response = await session.post(f"{sidecar.url}/v1/chat/completions", json=CHAT)
                statuses[response.status] += 1
                seen[(await response.json())["rheostat"]["bundle"]] += 1

        async with aiohttp.ClientSession() as session:
            clients = [asyncio.create_task(client(session)) for _ in range(4)]
            await asyncio.to_thread(wait_until, lambda: seen["one"] > 20)
            replace_bundle(served, bundles[1])
            await asyncio.to_thread(wait_until, lambda: seen["two"] > 20)
            (served / "manifest.json").write_text("{}")
            await asyncio.to_thread(wait_until, lambda: sidecar.ready()["reload"]["error"])
            stop.set()
            await asyncio.gather(*clients)
        assert set(statuses) == {200}
        assert set(seen) == {"one", "two"}
        status = sidecar.ready()
        assert status["bundle"] == "two"
        assert status["reload"]["failures"] >= 1


async def test_the_target_and_the_caps_of_a_request_move_the_decision(tmp_path, engine):
    bundle = write_bundle(tmp_path / "one", version="one")
    more = f'[router]\nbundle = "{bundle}"\ncache = "{tmp_path / "cache"}"\n'
    with running(Sidecar(tmp_path, [engine], more=more)) as sidecar:
        async with aiohttp.ClientSession() as session:

            async def decide(**options):
                response = await session.post(f"{sidecar.url}/v1/decide", json={**CHAT, "rheostat": options})
                return response.status, await response.json()

            assert (await decide(target_accuracy=0.2))[1]["decision"]["action"] == DIRECT
            assert (await decide(target_accuracy=0.9))[1]["decision"]["action"] == VOTES
            capped = (await decide(target_accuracy=0.9, max_tokens_total=100))[1]["decision"]
            assert (capped["action"], capped["feasible"]) == (DIRECT, False)
            status, error = await decide(target_accuracy=0.9, max_tokens_total=100, strict=True)
            assert (status, error["error"]["code"]) == (422, "infeasible")
            _, told = await decide(target_accuracy=0.9)
            assert {"decision", "explanation"} == set(told)
            assert told["decision"]["alternatives"]


async def test_a_promise_of_the_tier_or_the_request_is_told_in_the_answer(tmp_path, engine):
    bundle = write_bundle(tmp_path / "one", version="one", queries=400)
    more = f'[router]\nbundle = "{bundle}"\ncache = "{tmp_path / "cache"}"\n'
    tiers = "[tier.balanced]\ntarget_accuracy = 0.8\nconfidence = 0.9\n[tier.plain]\ntarget_accuracy = 0.8\n"
    with running(Sidecar(tmp_path, [engine], more=more + tiers)) as sidecar:
        async with aiohttp.ClientSession() as session:

            async def told(model="auto", headers=None, **options):
                url, body = f"{sidecar.url}/v1/chat/completions", {**CHAT, "model": model, "rheostat": options}
                async with session.post(url, json=body, headers=headers) as response:
                    answer = await response.json()
                    return answer["rheostat"]["guarantee"] if response.status == 200 else answer["error"]

            kept = await told()
            assert (kept["target"], kept["confidence"], kept["holds"]) == (0.8, 0.9, True)
            assert 0.8 <= kept["attainable"] < 0.92
            assert not (await told(target_accuracy=0.91))["holds"]
            assert await told("auto:plain") is None
            assert (await told("auto:plain", headers={"x-rheostat-confidence": "0.99"}))["confidence"] == 0.99
            refused = await told(target_accuracy=0.91, strict=True)
            assert refused["code"] == "infeasible"
            assert "200 held-out queries promise at most" in refused["message"]
