from __future__ import annotations

import asyncio

import pytest

from rheostat.data.errors import UpstreamError
from rheostat.policies.processes import free_port
from rheostat.policies.scorers.pooling import PoolingClient
from tests.policies.bare import Bare, says


async def test_each_endpoint_is_asked_in_its_own_way(serve, booked) -> None:
    replies = {"/pooling": [{"data": [[0.25, 0.75]]}], "/classify": [{"probs": [0.1, 0.9]}], "/score": [{"score": 0.5}]}
    server, client = await serve(lambda path, _: replies[path])

    assert await client.token_classes("<bos>x", booked) == [[0.25, 0.75]]
    assert await client.classes([{"role": "user", "content": "x"}], booked) == [0.1, 0.9]
    assert await client.relevance("a", "b", booked) == 0.5
    assert [body["model"] for body in server.bodies] == ["prm"] * 3
    assert server.bodies[0]["task"] == "token_classify"


async def test_reading_is_booked_as_a_verifiers_prompt_and_generates_nothing(serve, booked) -> None:
    _, client = await serve(lambda *_: [{"score": 0.5}])
    await client.relevance("a", "b", booked)

    (attempt,) = booked.attempts
    assert (attempt.kind, attempt.status, attempt.ledger.prompt, attempt.ledger.generated) == ("verifier", "ok", 7, 0)
    assert not attempt.estimated


@pytest.mark.parametrize(
    ("reply", "words"), [(503, "too long"), ("<html>", "something else"), ([], "without a result"), ([{"x": 1}], "something else")]
)
async def test_a_server_that_goes_wrong_is_one_error_and_booked_once(serve, booked, reply, words) -> None:
    _, client = await serve(lambda *_: reply)
    with pytest.raises(UpstreamError, match=words):
        await client.relevance("a", "b", booked)

    assert [attempt.status for attempt in booked.attempts] == ["failed"]


async def test_a_refusal_whose_reason_breaks_off_is_a_refusal_all_the_same(booked) -> None:
    cut_off = says(b"HTTP/1.1 429 Busy\r\nretry-after: 3\r\ncontent-length: 9\r\n\r\nbu", close=True)
    async with Bare(cut_off) as server, PoolingClient("reward", server.url, model="prm") as client:
        with pytest.raises(UpstreamError, match="answered 429") as refused:
            await client.relevance("a", "b", booked)

    assert (refused.value.status, refused.value.retryable, refused.value.retry_after_s) == (429, True, 3.0)


async def test_a_call_that_was_never_sent_is_not_booked(booked) -> None:
    async with PoolingClient("reward", f"http://127.0.0.1:{free_port()}", model="prm") as client:
        with pytest.raises(UpstreamError, match="cannot be reached"):
            await client.relevance("a", "b", booked)

    assert booked.attempts == []


async def test_a_cancelled_call_is_booked_as_cancelled(serve, booked) -> None:
    asked = asyncio.Event()

    def reply(*_):
        asked.set()
        return [{"score": 0.5}]

    _, client = await serve(reply)
    task = asyncio.create_task(client.relevance("a", "b", booked))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [(attempt.status, attempt.estimated) for attempt in booked.attempts] == [("cancelled", True)]


async def test_a_key_is_sent_as_a_bearer_token(serve, booked) -> None:
    server, _ = await serve(lambda *_: [{"score": 0.5}])
    client = PoolingClient("reward", f"{server.server.make_url('/v1')}", model="m", api_key="k")
    await client.relevance("a", "b", booked)

    assert server.headers[-1]["Authorization"] == "Bearer k"
    await client.close()


async def test_a_call_cancelled_before_it_was_sent_is_not_booked(booked, monkeypatch) -> None:
    async with Bare(says(b"")) as server, PoolingClient("reward", server.url, model="prm") as client:
        monkeypatch.setattr(client._client, "_connected", lambda until: asyncio.Event().wait())
        task = asyncio.create_task(client.relevance("a", "b", booked))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert booked.attempts == []
