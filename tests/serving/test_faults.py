"""What a running sidecar does when clients leave and engines fail."""

import asyncio
import json
import signal
from contextlib import contextmanager

import aiohttp
import pytest

from rheostat.data.outcomes import OutcomeReader
from rheostat.serving.breaker import FAILURES_TO_OPEN
from tests.serving import garbage
from tests.serving.conftest import Engine, Sidecar, get, running, wait_until

VOTES = "pocket/self_consistency(k=4)@800"
CHAT = {"model": "auto", "messages": garbage.MESSAGES}


@contextmanager
def sidecar_over(folder, *engines, more="", server=""):
    with running(Sidecar(folder, engines, more=more, server=server)) as started:
        yield started


@contextmanager
def engine_with(folder, *options, model="pocket"):
    with running(Engine(folder, model=model, options=options)) as started:
        yield started


async def post(sidecar, **fields):
    url = f"{sidecar.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json={**CHAT, **fields}) as response:
        return response.status, response.headers, await response.read()


def outcomes(sidecar):
    with OutcomeReader(sidecar.store) as store:
        return [row.outcome for row in store.rows_after(0, 1000) if row.outcome is not None]


@pytest.mark.parametrize(
    "fields", [{}, {"stream": True}, {"rheostat": {"action": VOTES}}, {"rheostat": {"action": VOTES}, "stream": True}, {"model": "pocket"}]
)
async def test_a_client_that_leaves_frees_the_engine_and_is_billed(tmp_path, slow_engine, wait, fields):
    with sidecar_over(tmp_path, slow_engine) as sidecar:
        before = slow_engine.generated
        asked = asyncio.create_task(post(sidecar, **fields))
        await asyncio.to_thread(wait_until, lambda: slow_engine.running)
        await asyncio.to_thread(wait_until, lambda: slow_engine.generated > before)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await asyncio.to_thread(wait, lambda: slow_engine.running == 0, 5)
        (outcome,) = await asyncio.to_thread(wait, lambda: outcomes(sidecar))
        assert outcome.status == "client_cancelled"
        assert outcome.ledger.wasted > 0
        assert abs(outcome.ledger.generated - (slow_engine.generated - before)) <= 2 * max(1, outcome.samples or 4)


@pytest.mark.parametrize("fault", ["error_500", "busy_503", "garbage_200", "reset", "truncate"])
async def test_an_engine_that_fails_is_an_openai_error_with_retry_after(tmp_path, fault):
    # Of a wave that broke half way, the samples that were complete would be an answer.
    votes = {"rheostat": {"action": VOTES}} if fault in ("error_500", "busy_503", "garbage_200") else {}
    with engine_with(tmp_path, "--fault", fault) as engine, sidecar_over(tmp_path, engine) as sidecar:
        for fields in ({}, votes, {"model": "pocket"}):
            status, headers, body = await post(sidecar, **fields)
            assert status == 503
            assert headers["retry-after"]
            assert json.loads(body)["error"]["type"] == "overloaded_error"
        assert (await post(sidecar, stream=True))[0] in (200, 503)
        assert json.loads(get(f"{sidecar.url}/healthz"))["status"] == "ok"


@pytest.mark.parametrize("fault", ["reset", "truncate", "error_event"])
async def test_a_stream_that_breaks_ends_in_an_error_event_and_no_end_mark(tmp_path, fault):
    with engine_with(tmp_path, "--fault", fault) as engine, sidecar_over(tmp_path, engine) as sidecar:
        status, _, body = await post(sidecar, stream=True)
        assert b"[DONE]" not in body
        last = body.decode().strip().splitlines()[-1]
        assert status == 503 or "error" in json.loads(last.removeprefix("data: "))


async def test_a_refusal_of_the_engine_is_the_clients_error(tmp_path):
    with engine_with(tmp_path, "--fault", "bad_request") as engine, sidecar_over(tmp_path, engine) as sidecar:
        assert (await post(sidecar))[0] == 400
        assert sidecar.ready()["ready"]


async def test_no_engine_at_all_is_503_and_not_ready_once_the_breaker_opens(tmp_path):
    with engine_with(tmp_path) as engine, sidecar_over(tmp_path, engine) as sidecar:
        engine.stop(signal.SIGKILL)
        for _ in range(FAILURES_TO_OPEN):
            status, headers, _ = await post(sidecar)
            assert (status, headers["retry-after"]) == (503, "1")
        async with aiohttp.ClientSession() as session:
            response = await session.get(f"{sidecar.url}/readyz")
            assert (response.status, (await response.json())["backends"]) == (503, {"pocket": False})


async def test_another_replica_answers_for_one_that_is_down(tmp_path, engine):
    with engine_with(tmp_path) as down, sidecar_over(tmp_path, down, engine) as sidecar:
        down.stop(signal.SIGKILL)
        for fields in [{}, {"stream": True}, {"rheostat": {"action": VOTES}}] * 3:
            status, _, body = await post(sidecar, **fields)
            assert status == 200
            assert b'"degraded":"no_bundle"' in body


async def test_another_model_answers_for_one_that_fails_and_both_decisions_are_recorded(tmp_path, large_engine, wait):
    with engine_with(tmp_path, "--fault", "error_500") as failing, sidecar_over(tmp_path, failing, large_engine) as sidecar:
        status, _, body = await post(sidecar)
        assert status == 200
        assert json.loads(body)["rheostat"]["action"] == "pocket-large/cot@256"
        found = await asyncio.to_thread(wait, lambda: len(outcomes(sidecar)) == 2 and outcomes(sidecar))
        assert sorted(outcome.status for outcome in found) == ["failed", "ok"]


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        ("silent", {}),
        ("silent", {"model": "pocket"}),
        ("silent", {"rheostat": {"action": VOTES}}),
        ("hang", {}),
        ("hang", {"model": "pocket"}),
    ],
)
async def test_a_deadline_bounds_an_engine_that_hangs(tmp_path, fault, fields):
    with engine_with(tmp_path, "--fault", fault) as engine, sidecar_over(tmp_path, engine) as sidecar:
        options = {**fields.get("rheostat", {}), "deadline_ms": 300}
        status, _, body = await post(sidecar, **{**fields, "rheostat": options})
        assert status == 504
        assert json.loads(body)["error"]["code"] == "deadline"


async def test_at_the_deadline_the_answer_is_made_from_the_samples_that_came(tmp_path):
    with engine_with(tmp_path, "--fault", "hang_one") as engine, sidecar_over(tmp_path, engine) as sidecar:
        status, _, body = await post(sidecar, rheostat={"action": VOTES, "deadline_ms": 500})
        told = json.loads(body)["rheostat"]
        assert (status, told["stop_reason"]) == (200, "deadline")
        assert 0 < told["samples"] < 4


async def test_beyond_the_bound_requests_are_shed_with_retry_after(tmp_path, slow_engine):
    with sidecar_over(tmp_path, slow_engine, server="max_in_flight = 1\nmax_queued = 0") as sidecar:
        first = asyncio.create_task(post(sidecar))
        await asyncio.to_thread(wait_until, lambda: slow_engine.running)
        status, headers, body = await post(sidecar)
        assert (status, headers["retry-after"], json.loads(body)["error"]["code"]) == (503, "1", "overloaded")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_keys_admit_by_hash_and_keep_tenants_apart(tmp_path, engine):
    key = "".join(f'[[key]]\nname = "{n}"\nsha256 = "{_sha256(n)}"\ntenant = "{n}"\n' for n in ("ann", "bob"))
    with sidecar_over(tmp_path, engine, more=key) as sidecar:
        async with aiohttp.ClientSession() as session:

            async def ask(path, body, **headers):
                response = await session.post(f"{sidecar.url}{path}", json=body, headers=headers)
                return response.status, await response.json()

            for headers in (
                {},
                {"Authorization": "Bearer an"},
                {"Authorization": "Bearer annn"},
                {"Authorization": "ann"},
                {"Authorization": "Basic ann"},
            ):
                assert (await ask("/v1/chat/completions", CHAT, **headers))[0] == 401
            status, answer = await ask("/v1/chat/completions", CHAT, Authorization="Bearer ann")
            assert status == 200
            feedback = {"decision_id": answer["rheostat"]["decision_id"], "reward": 1}
            assert (await ask("/v1/feedback", feedback, Authorization="Bearer bob"))[0] == 404
            assert (await ask("/v1/feedback", feedback, Authorization="Bearer ann"))[0] == 200


def _sha256(text):
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()
