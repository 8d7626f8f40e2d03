"""Engines that refuse, fall silent, break off or talk nonsense: bounded time, an OpenAI-shaped error, or another backend."""

import asyncio
import json
import time

import pytest

from tests.faults.conftest import VOTES, is_openai_error, post
from tests.serving.conftest import wait_until

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DIRECT = {"rheostat": {"action": "pocket/direct@64"}}


@pytest.mark.parametrize(
    "fault",
    [
        "error_500", "busy_503", "busy_429", "stale", "reset_head", "reset", "redirect", "garbage_200", "garbage_event",
        "long_line", "truncate",
    ],
)  # fmt: skip
async def test_a_failing_engine_is_an_openai_error_with_retry_after(single, fault):
    single.engines[0].does(fault)
    status, headers, body = await post(single.sidecar)
    assert status == 503
    assert is_openai_error(body)
    assert int(headers["retry-after"]) >= 1
    assert single.engines[0].url.encode() not in body  # where engines are is no client's business


async def test_a_redirect_is_not_followed(single):
    single.engines[0].does("redirect")
    before = single.engines[0].calls
    assert (await post(single.sidecar))[0] == 503
    assert single.engines[0].calls == before + 1


@pytest.mark.parametrize("fault", ["error_500", "busy_503", "busy_429", "stale", "reset_head", "reset", "garbage_200", "truncate"])
async def test_another_backend_answers_for_one_that_fails_before_a_byte_was_sent(pair, fault):
    pair.engines[0].does(fault)
    for fields in ({}, {"rheostat": {"action": VOTES}}, {}, DIRECT):
        status, _, body = await post(pair.sidecar, **fields)
        assert status == 200, body
    assert pair.metric("rheostat_upstream_retries_total") > 0


@pytest.mark.parametrize("fault", ["reset", "truncate"])
async def test_a_stream_that_broke_after_a_byte_is_not_tried_again(pair, fault):
    for engine in pair.engines:
        engine.does(fault)
    before = sum(engine.calls for engine in pair.engines)
    status, _, body = await post(pair.sidecar, stream=True)
    assert b"[DONE]" not in body
    assert sum(engine.calls for engine in pair.engines) == before + 1
    assert status == 200
    assert is_openai_error(body.strip().splitlines()[-1].removeprefix(b"data: "))


@pytest.mark.parametrize("fault", ["silent", "hang", "drip"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_is_silent_or_slow_is_bounded_by_the_deadline(single, fault, stream):
    single.engines[0].does(fault)
    started = time.monotonic()
    status, _, body = await post(single.sidecar, stream=stream, rheostat={"deadline_ms": 400})
    assert time.monotonic() - started < 10
    assert b"[DONE]" not in body
    assert status == 504 or (stream and is_openai_error(body.strip().splitlines()[-1].removeprefix(b"data: "))), body
    await asyncio.to_thread(wait_until, lambda: single.engines[0].running == 0)


async def test_bytes_cut_inside_lines_and_characters_give_the_same_answer(single):
    fields = {"model": "pocket", "seed": 7, "temperature": 0.7, "messages": [{"role": "user", "content": "Wie groß ist π? 2 plus 3"}]}
    whole = json.loads((await post(single.sidecar, **fields))[2])
    single.engines[0].does("split")
    cut = json.loads((await post(single.sidecar, **fields))[2])
    assert cut["choices"] == whole["choices"]
    assert cut["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


async def test_of_samples_one_of_which_hangs_the_others_are_the_answer_and_the_straggler_ends(single):
    engine = single.engines[0]
    engine.does("hang_one")
    before = engine.generated
    status, _, body = await post(single.sidecar, rheostat={"action": VOTES, "deadline_ms": 1000})
    told = json.loads(body)["rheostat"]
    assert (status, told["stop_reason"]) == (200, "deadline")
    assert 0 < told["samples"] < 4
    await asyncio.to_thread(wait_until, lambda: engine.running == 0)
    spent = told["ledger"]
    assert spent["completion"] + spent["reasoning"] + spent["wasted"] == engine.generated - before


async def test_a_breaker_holds_calls_back_from_the_failing_backend_only_and_lets_them_in_again(pair):
    failing, well = pair.engines
    failing.does("error_500")
    before = failing.calls
    statuses = [(await post(pair.sidecar))[0] for _ in range(40)]
    assert set(statuses) == {200}
    assert failing.calls - before < 20
    failing.does("ok")
    before = failing.calls

    async with asyncio.timeout(60):
        while failing.calls == before:
            await asyncio.gather(*(post(pair.sidecar) for _ in range(8)))
    assert well.calls > 0


async def test_a_backend_that_says_it_is_unwell_gets_no_calls_until_it_is_well(pair):
    unwell = pair.engines[0]
    unwell.does(healthy=False)
    await asyncio.to_thread(wait_until, lambda: pair.metric("rheostat_backend_up", backend="b0") == 0)
    before = unwell.calls
    assert {(await post(pair.sidecar))[0] for _ in range(10)} == {200}
    assert unwell.calls == before


async def test_when_all_backends_fail_retries_stay_within_their_share(pair):
    for engine in pair.engines:
        engine.does("busy_503")
    asked = 50
    before = pair.metric("rheostat_upstream_retries_total")
    statuses = [(await post(pair.sidecar))[0] for _ in range(asked)]
    assert set(statuses) == {503}
    # A held-back replica is not tried, so a fleet that fails as a whole is hardly asked twice.
    assert pair.metric("rheostat_upstream_retries_total") - before <= 0.2 * asked + 10


async def test_a_full_queue_at_the_engine_makes_its_model_scarce_and_shows_in_the_metrics(single):
    single.engines[0].does(waiting=1000)
    await asyncio.to_thread(wait_until, lambda: single.metric("rheostat_congestion", model="pocket") > 0.9)
    assert single.metric("rheostat_backend_waiting", backend="b0") == 1000
    assert (await post(single.sidecar))[0] == 200
    single.engines[0].does(waiting=0)
    await asyncio.to_thread(wait_until, lambda: single.metric("rheostat_congestion", model="pocket") < 0.1)


async def test_the_callers_trace_reaches_the_engine_and_a_broken_one_begins_anew(single):
    await post(single.sidecar, headers={"traceparent": PARENT, "tracestate": "a=1", "baggage": "secret=1"})
    headers = {name.lower(): value for name, value in single.engines[0].does()["headers"].items()}
    assert (headers["traceparent"], headers["tracestate"]) == (PARENT, "a=1")
    assert "baggage" not in headers
    await post(single.sidecar, headers={"traceparent": "garbage"})
    headers = {name.lower(): value for name, value in single.engines[0].does()["headers"].items()}
    assert headers["traceparent"] != PARENT
    assert len(headers["traceparent"]) == len(PARENT)
