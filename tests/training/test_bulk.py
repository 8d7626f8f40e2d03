import asyncio
import json

import pytest
from aiohttp import web

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import Attempt
from rheostat.policies.base import GenerateRequest
from rheostat.training.bulk import BulkBackend

REQUEST = GenerateRequest(
    model="m", messages=({"role": "user", "content": "2 + 2?"},), max_tokens=16, n=2, seed=5, stop=("x",), logprobs=True
)


class Bookings(list[Attempt]):
    def book(self, attempt: Attempt) -> None:
        self.append(attempt)


def reply(lengths=(3, 1), *, logprobs=True, total=None):
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": "x" * n},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}] * n} if logprobs else None,
        }
        for i, n in enumerate(lengths)
    ]
    total = sum(lengths) if total is None else total
    return {"id": "1", "choices": choices[::-1], "usage": {"prompt_tokens": 7, "completion_tokens": total, "total_tokens": 7 + total}}


async def test_completions_come_in_order_with_their_own_tokens_and_mean_log_probability(serve):
    asked = []

    async def handler(request):
        asked.append(await request.json())
        return web.json_response(reply())

    backend, booked = BulkBackend("b", await serve(handler), model="served"), Bookings()
    generation = await backend.generate(REQUEST, booked)
    await backend.close()
    assert [(c.index, c.completion_tokens, c.mean_logprob) for c in generation.completions] == [(0, 3, -0.5), (1, 1, -0.5)]
    assert [(a.status, a.ledger.completion, a.ledger.prompt, a.n) for a in booked] == [("ok", 4, 7, 2)]
    assert asked[0]["model"] == "served"
    assert (asked[0]["stream"], asked[0]["seed"], asked[0]["n"], asked[0]["stop"]) == (False, 5, 2, ["x"])


async def test_without_log_probabilities_the_shares_still_sum_to_the_usage(serve):
    async def handler(request):
        return web.json_response(reply((5, 2, 9), logprobs=False, total=11))

    backend = BulkBackend("b", await serve(handler))
    generation = await backend.generate(REQUEST, Bookings())
    await backend.close()
    assert sum(c.completion_tokens for c in generation.completions) == 11
    assert generation.completions[0].mean_logprob is None


@pytest.mark.parametrize(("status", "retryable"), [(400, False), (404, False), (429, True), (500, True), (503, True)])
async def test_a_refusal_is_booked_once_and_says_whether_to_try_again(serve, status, retryable):
    async def handler(request):
        return web.Response(status=status, text="no room")

    backend, booked = BulkBackend("b", await serve(handler)), Bookings()
    with pytest.raises(UpstreamError, match="no room") as caught:
        await backend.generate(REQUEST, booked)
    await backend.close()
    assert (caught.value.retryable, caught.value.status) == (retryable, status)
    assert [(a.status, a.ledger.generated) for a in booked] == [("failed", 0)]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"choices": []}', json.dumps({"error": {"message": "x"}}).encode()])
async def test_garbage_is_a_retryable_failure(serve, body):
    async def handler(request):
        return web.Response(body=body)

    backend, booked = BulkBackend("b", await serve(handler)), Bookings()
    with pytest.raises(UpstreamError, match="no chat completion") as caught:
        await backend.generate(REQUEST, booked)
    await backend.close()
    assert caught.value.retryable
    assert len(booked) == 1


async def test_a_broken_connection_is_booked_as_an_estimate(serve):
    async def handler(request):
        request.transport.close()
        return web.Response()

    backend, booked = BulkBackend("b", await serve(handler)), Bookings()
    with pytest.raises(UpstreamError, match="broke off"):
        await backend.generate(REQUEST, booked)
    await backend.close()
    assert [(a.status, a.estimated) for a in booked] == [("failed", True)]


async def test_a_backend_that_is_not_there_is_not_booked():
    backend, booked = BulkBackend("b", "http://127.0.0.1:9"), Bookings()
    with pytest.raises(UpstreamError, match="cannot be reached") as caught:
        await backend.generate(REQUEST, booked)
    await backend.close()
    assert caught.value.retryable
    assert booked == []


async def test_a_cancelled_call_closes_upstream_and_books_the_mean_length_seen_before(serve):
    arrived, calls = asyncio.Event(), []

    async def handler(request):
        calls.append(1)
        if len(calls) == 1:
            return web.json_response(reply((6, 4)))
        arrived.set()
        return await asyncio.Future()

    backend, booked = BulkBackend("b", await serve(handler)), Bookings()
    await backend.generate(REQUEST, booked)
    call = asyncio.create_task(backend.generate(REQUEST, booked))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await backend.close()
    assert (booked[1].status, booked[1].estimated, booked[1].ledger.wasted) == ("cancelled", True, 10)
