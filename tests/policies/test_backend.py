import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import Action
from rheostat.policies.backend import VllmBackend
from rheostat.policies.base import GenerateRequest, Meter, Said
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.fake_server import FakeServer
from rheostat.policies.reply import Reply
from rheostat.policies.run import run_action
from tests.policies import make


def request(**fields):
    defaults = {
        "model": "fake",
        "messages": ({"role": "user", "content": "What is 3+4?"},),
        "max_tokens": 200,
        "temperature": 0.8,
        "seed": 1,
    }
    return GenerateRequest(**(defaults | fields))


@asynccontextmanager
async def serving(*faults, timeouts=None, **options):
    """A fake server with these faults, and a backend that talks to it."""
    server = FakeServer(faults=faults or ["ok"], **options)
    async with TestServer(server.app) as listening, VllmBackend("b", str(listening.make_url("")), **(timeouts or {})) as backend:
        yield server, backend


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(condition):
    """Let the server notice what the client did."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the server has no event for a client that left
            await asyncio.sleep(0.001)


async def test_samples_come_in_the_order_of_the_request_with_the_servers_count():
    async with serving() as (server, backend):
        meter = Meter(9999)
        generation = await backend.generate(request(n=5, logprobs=True), meter)
    expected = [FakeModel().speak("What is 3+4?", 1 + i, 200) for i in range(5)]
    assert [c.text for c in generation.completions] == [s.text for s in expected]
    assert [c.completion_tokens for c in generation.completions] == [len(s.words) for s in expected]
    assert [c.mean_logprob for c in generation.completions] == pytest.approx([s.mean_logprob for s in expected])
    assert meter.ledger.completion == server.generated_tokens
    assert (meter.ledger.prompt, meter.ledger.cached_prompt, meter.ledger.calls) == (3, 1, 1)
    assert not generation.attempt.estimated


async def test_the_body_is_what_vllm_expects_and_the_cap_cannot_be_lifted():
    async with serving() as (server, backend):
        await backend.generate(request(stop=("\n",), max_tokens=7, extra={"max_completion_tokens": 999, "n": 50, "min_p": 0.1}), Meter(99))
    (body,) = server.bodies
    assert (body["max_tokens"], body["n"], body["stop"], body["min_p"], body["seed"]) == (7, 1, ["\n"], 0.1, 1)
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert "max_completion_tokens" not in body
    assert "logprobs" not in body


async def test_the_served_name_of_the_model_and_an_address_with_v1_are_fine():
    server = FakeServer(["served"])
    async with TestServer(server.app) as listening:
        url = str(listening.make_url("/v1/"))
        async with VllmBackend("b", url, model="served", api_key="secret") as backend:
            generation = await backend.generate(request(model="pocket"), Meter(999))
            assert generation.attempt.model == "pocket"
            assert await backend.models() == ["served"]


async def test_a_server_tells_its_health_models_and_counters():
    async with serving() as (server, backend):
        await backend.generate(request(n=2), Meter(999))
        assert await backend.healthy()
        assert await backend.models() == ["fake"]
        metrics = await backend.metrics()
    assert metrics["generation_tokens_total"] == server.generated_tokens > 0
    assert {"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"} <= metrics.keys()


async def test_without_a_server_nothing_is_booked_and_the_error_says_where_to_look():
    meter = Meter(999)
    async with VllmBackend("gone", f"http://127.0.0.1:{free_port()}") as backend:
        assert not await backend.healthy()
        with pytest.raises(UpstreamError, match="gone cannot be reached at http") as caught:
            await backend.generate(request(), meter)
    assert caught.value.retryable
    assert caught.value.told == "gone cannot be reached"
    assert meter.attempts == []


@pytest.mark.parametrize(
    ("fault", "status", "retryable", "estimated"),
    [("bad_request", 400, False, False), ("error_500", 500, True, True), ("busy_503", 503, True, True), ("garbage_200", 200, True, True)],
)
async def test_a_refusal_is_booked_once_with_its_status(fault, status, retryable, estimated):
    meter = Meter(999)
    async with serving(fault) as (_, backend):
        with pytest.raises(UpstreamError) as caught:
            await backend.generate(request(), meter)
    assert (caught.value.status, caught.value.retryable) == (status, retryable)
    assert [(a.status, a.estimated, a.ledger.generated) for a in meter.attempts] == [("failed", estimated, 0)]


async def test_a_busy_server_says_when_to_come_back():
    async with serving("busy_503") as (_, backend):
        with pytest.raises(UpstreamError, match="b answered 503: overloaded") as caught:
            await backend.generate(request(), Meter(999))
    assert caught.value.retry_after_s == 2.0


async def test_an_unknown_model_is_the_clients_fault():
    async with serving() as (_, backend):
        with pytest.raises(UpstreamError, match=r"has no model 'other': http.* serves fake") as caught:
            await backend.generate(request(model="other"), Meter(999))
    assert (caught.value.status, caught.value.retryable) == (404, False)


async def test_a_model_that_is_nearly_known_is_told_with_it_and_booked_once():
    meter = Meter(999)
    async with serving() as (_, backend):
        with pytest.raises(UpstreamError, match="did you mean 'fake'"):
            await backend.generate(request(model="fakes"), meter)
    assert [attempt.status for attempt in meter.attempts] == ["failed"]


async def test_a_connection_that_another_call_takes_while_models_are_listed_stays_that_calls(monkeypatch):
    async with serving() as (_, backend):
        client, taken = backend._client, []

        async def models():
            taken.append(await client.send("GET", "/v1/models", until=asyncio.get_running_loop().time() + 9.0))
            return ("fake",)

        monkeypatch.setattr(backend, "models", models)
        with pytest.raises(UpstreamError, match="has no model"):
            await backend.generate(request(model="other"), Meter(999))
        assert set(taken) == client._busy
        client.release(taken[0])


@pytest.mark.parametrize("fault", ["truncate", "garbage_event", "error_event", "long_line"])
async def test_a_stream_that_breaks_is_booked_for_what_was_generated(fault):
    meter = Meter(999)
    async with serving(fault) as (server, backend):
        with pytest.raises(UpstreamError):
            await backend.generate(request(), meter)
    assert [a.status for a in meter.attempts] == ["failed"]
    assert meter.ledger.wasted == server.generated_tokens > 0


async def test_a_reset_connection_is_a_failure_booked_once():
    meter = Meter(999)
    async with serving("reset") as (server, backend):
        with pytest.raises(UpstreamError, match="b broke the connection"):
            await backend.generate(request(), meter)
    assert [a.status for a in meter.attempts] == ["failed"]
    assert meter.ledger.generated <= server.generated_tokens


@pytest.mark.parametrize("fault", ["split", "drip"])
async def test_bytes_in_odd_pieces_make_the_same_text(fault):
    model = FakeModel(default={"7": 1.0}, say="Die Lösung — the answer is {}.".format, tokens=(8, 8))
    meter = Meter(999)
    async with serving(fault, model=model, drip_s=0.0) as (server, backend):
        (completion,) = (await backend.generate(request(), meter)).completions
    assert completion.text == model.speak("What is 3+4?", 1, 200).text
    assert meter.ledger.completion == server.generated_tokens


async def test_a_server_without_usage_is_estimated():
    meter = Meter(999)
    async with serving("no_usage") as (server, backend):
        await backend.generate(request(), meter)
    assert meter.attempts[0].estimated
    assert meter.ledger.completion == server.generated_tokens


@pytest.mark.parametrize("fault", ["silent", "hang"])
async def test_a_silent_server_is_left_at_the_limit_and_booked_once(fault):
    meter = Meter(999)
    async with serving(fault) as (server, backend):
        with pytest.raises(UpstreamError, match="did not answer in time"):
            await backend.generate(request(timeout_s=0.5), meter)
        await until(lambda: server.running == 0)
    assert [a.status for a in meter.attempts] == ["failed"]
    assert meter.ledger.wasted == server.generated_tokens


async def test_silence_between_two_reads_is_limited_as_well():
    async with serving("hang", timeouts={"idle_timeout_s": 0.3}) as (_, backend):
        with pytest.raises(UpstreamError, match="did not answer in time"):
            await backend.generate(request(), Meter(999))


async def test_one_hanging_sample_does_not_take_the_others_with_it():
    meter = Meter(9999)
    async with serving("hang_one") as (server, backend):
        generation = await backend.generate(request(n=4, timeout_s=1.0), meter)
    assert [c.index for c in generation.completions] == [0, 1, 2]
    assert generation.attempt.status == "failed"
    assert meter.ledger.generated == server.generated_tokens
    assert meter.ledger.wasted > 0


async def test_at_the_deadline_a_wave_gives_the_samples_that_are_complete():
    action = Action.parse("fake/self_consistency(k=4)@9999")
    async with serving("hang_one") as (server, backend):
        result = await run_action(action, make.question(), {"fake": backend}, kind="number", seed=1, deadline_s=1.0)
    assert ([c.index for c in result.evidence.candidates], result.stop_reason) == ([0, 1, 2], "deadline")
    assert result.ledger.generated == server.generated_tokens


async def test_a_cancelled_call_is_billed_to_the_last_token_where_the_engine_takes_aborts():
    meter = Meter(9999)
    async with serving(token_s=0.001, model=FakeModel(tokens=(150, 200))) as (server, backend):
        task = asyncio.create_task(backend.generate(request(n=8), meter))
        await until(lambda: server.generated_tokens > 40)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.running == 0)
    assert [a.status for a in meter.attempts] == ["cancelled"]
    assert meter.ledger.wasted == server.generated_tokens < 8 * 150


async def test_where_the_engine_takes_no_aborts_a_cancelled_call_is_closed_and_billed_for_what_was_seen():
    meter = Meter(9999)
    async with serving("hang", aborts=False) as (server, backend):
        for _ in range(2):
            before = server.generated_tokens
            task = asyncio.create_task(backend.generate(request(n=3), meter))
            await until(lambda before=before: server.generated_tokens > before)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: server.running == 0)
    assert [a.status for a in meter.attempts] == ["cancelled", "cancelled"]
    assert meter.ledger.generated == meter.ledger.wasted <= server.generated_tokens


async def test_a_second_cancel_while_settling_still_books_once(monkeypatch):
    meter = Meter(9999)
    async with serving("hang") as (server, backend):
        monkeypatch.setattr(backend, "_settle", lambda *_: asyncio.Event().wait())
        task = asyncio.create_task(backend.generate(request(n=3), meter))
        await until(lambda: server.generated_tokens > 0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [a.status for a in meter.attempts] == ["cancelled"]


async def test_a_call_cancelled_before_the_first_byte_is_booked_once():
    meter = Meter(9999)
    async with serving("silent") as (server, backend):
        task = asyncio.create_task(backend.generate(request(), meter))
        await until(lambda: server.bodies)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [(a.status, a.estimated) for a in meter.attempts] == [("cancelled", True)]


async def test_the_stream_is_passed_on_byte_for_byte_and_booked():
    meter, said = Meter(999), Said()
    async with serving() as (server, backend):
        data = b"".join([chunk async for chunk in backend.stream(request(), meter, said=said)])
    events = [line.removeprefix(b"data: ") for line in data.split(b"\n\n") if line]
    assert events[-1] == b"[DONE]"
    text = "".join(c["delta"]["content"] for event in events[:-1] for c in msgspec.json.decode(event)["choices"])
    assert said.completions[0].text == text
    assert [a.status for a in meter.attempts] == ["ok"]
    assert meter.ledger.completion == server.generated_tokens


async def test_closing_the_stream_cancels_the_call_and_bills_what_was_generated():
    meter = Meter(999)
    half = len(FakeModel().speak("What is 3+4?", 1, 200).words) // 2
    async with serving("hang") as (server, backend):
        stream, seen = backend.stream(request(), meter), b""
        while seen.count(b"data:") < half:
            seen += await anext(stream)
        await stream.aclose()
        await until(lambda: server.running == 0)
    assert [a.status for a in meter.attempts] == ["cancelled"]
    assert meter.ledger.wasted == server.generated_tokens == half


async def test_closing_the_stream_after_its_end_is_no_cancel():
    meter = Meter(999)
    async with serving() as (_, backend):
        stream = backend.stream(request(), meter)
        async for chunk in stream:
            if b"[DONE]" in chunk:
                break
        await stream.aclose()
    assert [a.status for a in meter.attempts] == ["ok"]


@pytest.mark.parametrize("listing", ["<html>", "[]", '{"data": [{}]}', '{"data": 3}'])
async def test_a_server_that_lists_no_models_says_so(listing):
    async def models(_):
        return web.Response(text=listing)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    async with TestServer(app) as listening, VllmBackend("b", str(listening.make_url(""))) as backend:
        with pytest.raises(UpstreamError, match="lists no models"):
            await backend.models()
        with pytest.raises(UpstreamError, match="answered 404 to /metrics"):
            await backend.metrics()


async def test_a_plain_text_refusal_is_quoted():
    async def refuse(_):
        return web.Response(status=502, text="bad gateway", headers={"Retry-After": "soon"})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", refuse)
    async with TestServer(app) as listening, VllmBackend("b", str(listening.make_url(""))) as backend:
        with pytest.raises(UpstreamError, match="b answered 502: bad gateway") as caught:
            await backend.generate(request(), Meter(999))
    assert caught.value.retry_after_s is None


async def test_what_all_calls_generated_is_what_all_calls_booked():
    faults = ["ok", "truncate", "error_500", "split", "error_event", "ok", "garbage_event", "busy_503"]
    meter = Meter(10**6)
    async with serving(*faults) as (server, backend):

        async def call(seed):
            with suppress(UpstreamError):
                await backend.generate(request(n=3, seed=seed), meter)

        await asyncio.gather(*(call(seed) for seed in range(24)))
        metrics = await backend.metrics()
    assert meter.ledger.generated == server.generated_tokens == metrics["generation_tokens_total"]
    assert len(meter.attempts) == len(server.bodies) == 24


async def test_the_fake_backend_answers_as_the_fake_server_does():
    action = Action.parse("fake/self_consistency(k=6,stop=lead(3))@999")
    async with serving() as (_, backend):
        real = await run_action(action, make.question(), {"fake": backend}, kind="number", seed=4)
    fake = await run_action(action, make.question(), {"fake": FakeBackend()}, kind="number", seed=4)
    assert [c.text for c in real.evidence.candidates] == [c.text for c in fake.evidence.candidates]
    assert real.stop_reason == fake.stop_reason
    assert real.ledger.generated == fake.ledger.generated


async def test_a_reply_that_has_begun_is_gone_on_with_behind_the_rendered_conversation():
    async with serving() as (server, backend):
        meter = Meter(999)
        generation = await backend.generate(request(prefill="3+4=", logprobs=True, extra={"tools": [], "top_k": 5}), meter)
        await backend.generate(request(prefill="3+4=7"), meter)
    body = server.bodies[0]
    assert body["prompt"] == "<user>What is 3+4?<assistant>3+4="
    assert "messages" not in body
    assert "tools" not in body
    assert (body["top_k"], body["add_special_tokens"]) == (5, False)
    assert generation.completions[0].mean_logprob is not None
    assert meter.ledger.generated == server.generated_tokens


async def test_a_cancelled_continuation_is_aborted_and_booked(monkeypatch):
    heard, feed = asyncio.Event(), Reply.feed

    def feed_and_tell(reply, chunk):
        feed(reply, chunk)
        heard.set()

    monkeypatch.setattr(Reply, "feed", feed_and_tell)
    async with serving("hang") as (server, backend):
        meter = Meter(999)
        task = asyncio.create_task(backend.generate(request(prefill="3+4="), meter))
        await heard.wait()  # only a call whose name is known can be aborted
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [attempt.status for attempt in meter.attempts] == ["cancelled"]
    assert meter.ledger.wasted == server.generated_tokens


async def test_a_server_that_cannot_render_is_named_and_nothing_is_booked():
    async with serving() as (_, backend):
        meter = Meter(999)
        with pytest.raises(UpstreamError, match="does not render prompts"):
            await backend.generate(request(prefill="x", messages=({"content": "no role"},)), meter)
    assert meter.attempts == []


async def test_an_engine_that_refuses_to_budget_thinking_is_asked_once():
    class Refusing(FakeServer):
        async def _chat(self, request):
            self.bodies.append(await request.json())
            return web.json_response({"error": {"message": "thinking_token_budget is not configured", "code": 400}}, status=400)

    server = Refusing()
    async with TestServer(server.app) as listening, VllmBackend("b", str(listening.make_url(""))) as backend:
        meter = Meter(999)
        for _ in range(3):
            with pytest.raises(UpstreamError) as caught:
                await backend.generate(request(thinking_tokens=9), meter)
            assert caught.value.status == 400
    assert [body["thinking_token_budget"] for body in server.bodies] == [9]
    assert (len(meter.attempts), meter.ledger.generated) == (1, 0)


async def test_a_cap_beyond_the_engines_context_is_cut_to_what_fits_from_then_on():
    async with serving(context_tokens=100) as (server, backend):
        meter = Meter(9999)
        for fields in ({}, {}, {"prefill": "3+4="}, {"max_tokens": 20}):
            await backend.generate(request(**fields), meter)
    # The conversation is 29 characters long as it is rendered, and the engine refuses once.
    assert [body["max_tokens"] for body in server.bodies] == [200, 71, 71, 67, 20]
    assert [attempt.status for attempt in meter.attempts] == ["failed", "ok", "ok", "ok", "ok"]
    assert meter.ledger.generated == server.generated_tokens


async def test_the_cap_of_a_stream_is_cut_to_the_engines_context_too():
    async with serving(context_tokens=100) as (server, backend):
        meter = Meter(9999)
        for _ in range(2):
            said = Said()
            data = b"".join([chunk async for chunk in backend.stream(request(), meter, said=said)])
            assert data.endswith(b"data: [DONE]\n\n")
            assert said.completions[0].completion_tokens > 0
    assert [body["max_tokens"] for body in server.bodies] == [200, 71, 71]
    assert [attempt.status for attempt in meter.attempts] == ["failed", "ok", "ok"]
    assert meter.ledger.generated == server.generated_tokens


async def test_calls_refused_together_are_all_cut():
    async with serving(context_tokens=100) as (_, backend):
        meter = Meter(9999)
        generations = await asyncio.gather(*(backend.generate(request(), meter) for _ in range(3)))
    assert all(generation.completions for generation in generations)


async def test_a_call_cancelled_or_out_of_time_while_it_waits_for_its_place_was_never_sent_and_is_not_booked():
    first, waiting = Meter(9999), Meter(9999)
    async with serving("hang", timeouts={"max_connections": 1}) as (server, backend):
        holds = asyncio.create_task(backend.generate(request(), first))
        await until(lambda: server.generated_tokens > 0)
        gone = asyncio.create_task(backend.generate(request(), waiting))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        with pytest.raises(UpstreamError, match="in time"):
            await backend.generate(request(timeout_s=0.01), waiting)
        assert waiting.attempts == []
        holds.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holds
    assert [attempt.status for attempt in first.attempts] == ["cancelled"]
