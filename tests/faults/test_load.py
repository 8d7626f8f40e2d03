"""Clients that crowd, dawdle or leave sockets lying about: timeouts, caps and early refusals; the others are served."""

import asyncio
import contextlib
import json
import socket
import time

import aiohttp
import pytest

from rheostat.serving.connection import MAX_AHEAD
from tests.faults.conftest import CHAT, FaultyEngine, Stack, is_openai_error, post
from tests.serving.conftest import Sidecar, running, wait_until

PLACES, QUEUE = 4, 4
SERVER = f"""max_in_flight = {PLACES}
max_queued = {QUEUE}
max_wait_s = 5.0
head_timeout_s = 1.0
body_timeout_s = 1.0
stall_timeout_s = 1.0
max_connections = 1000
max_tokens = 200000
"""
LONG = {"model": "pocket", "max_tokens": 12_000, "n": 16, "stream": True}


@pytest.fixture(scope="module")
def processes(folder):
    slow = ("--token-s", "0.0001")
    with (
        running(FaultyEngine(folder, model="pocket", options=slow)) as engine,
        running(Sidecar(folder, [engine], store="load.db", server=SERVER)) as sidecar,
    ):
        yield Stack(sidecar, engine)


@pytest.fixture
def crowded(processes):
    processes.heal()
    return processes


def connect(sidecar, receive_buffer=None):
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", sidecar.port))
    return connection


def read_all(connection):
    """All that comes until the sidecar closes the connection, in whatever way."""
    came = b""
    with connection:
        try:
            while data := connection.recv(65536):
                came += data
        except ConnectionError:
            pass
    return came


def request(fields, extra=b"", length=None):
    body = json.dumps(fields).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n" % (length or len(body)) + body + extra


def test_a_head_that_never_ends_is_cut_off_while_others_are_served(crowded):
    slow = [connect(crowded.sidecar) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ")
    assert asyncio.run(post(crowded.sidecar))[0] == 200
    assert all(read_all(connection) == b"" for connection in slow)
    assert crowded.metric("rheostat_connections_cut_total", reason="head_timeout") >= 50


def test_a_body_that_never_ends_is_408_and_holds_no_place(crowded):
    slow = [connect(crowded.sidecar) for _ in range(3 * PLACES)]
    for connection in slow:
        connection.sendall(request(CHAT, length=10_000))
    assert asyncio.run(post(crowded.sidecar))[0] == 200
    for connection in slow:
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert is_openai_error(answer.partition(b"\r\n\r\n")[2])


def test_a_body_that_never_follows_its_early_answer_is_cut_off(crowded):
    refused = [connect(crowded.sidecar) for _ in range(20)]
    before = crowded.metric("rheostat_connections_cut_total", reason="head_timeout")
    for connection in refused:
        connection.sendall(b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
    assert all(read_all(connection).startswith(b"HTTP/1.1 404 ") for connection in refused)
    assert crowded.metric("rheostat_connections_cut_total", reason="head_timeout") >= before + len(refused)


def test_fields_behind_a_body_that_never_end_are_cut_off(crowded):
    before = crowded.metric("rheostat_connections_cut_total", reason="large_head")
    with connect(crowded.sidecar) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ")
        for _ in range(64):
            connection.sendall(b"a" * 65_536)
        read_all(connection)
    wait_until(lambda: crowded.metric("rheostat_connections_cut_total", reason="large_head") == before + 1)
    assert asyncio.run(post(crowded.sidecar))[0] == 200


def test_a_flood_of_requests_sent_ahead_is_answered_up_to_a_bound(crowded):
    with connect(crowded.sidecar) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 100_000)
        assert read_all(connection).count(b"HTTP/1.1 ") <= MAX_AHEAD
    assert asyncio.run(post(crowded.sidecar))[0] == 200


def test_thousands_of_idle_connections_cost_the_oldest_idle_ones_and_nobody_else(crowded):
    idle = []
    try:
        for _ in range(5_000):
            idle.append(connect(crowded.sidecar))  # noqa: PERF401 - those opened so far are to be closed in any case
        assert asyncio.run(post(crowded.sidecar))[0] == 200
        cut = crowded.metric("rheostat_connections_cut_total")
        assert cut >= 4_000
    finally:
        for connection in idle:
            connection.close()
    assert crowded.sidecar.ready()["ready"]


def test_an_answer_that_is_not_read_is_cut_off_and_its_engine_freed(crowded):
    engine = crowded.engines[0]
    engine.does("endless")
    with connect(crowded.sidecar, receive_buffer=4096) as connection:
        connection.sendall(request({**CHAT, **LONG}))
        wait_until(lambda: engine.running == 1)
        wait_until(lambda: crowded.metric("rheostat_connections_cut_total", reason="stalled_reader") == 1, 60)
        wait_until(lambda: engine.running == 0)
    wait_until(lambda: crowded.metric("rheostat_outcomes_total", status="client_cancelled") == 1)


async def test_a_burst_of_ten_times_the_capacity_is_served_in_turn_or_refused_at_once(crowded):
    crowded.engines[0].does("endless")

    async def ask(session):
        started = time.monotonic()
        status, headers, body = await post(crowded.sidecar, session, model="pocket", max_tokens=400)
        return status, time.monotonic() - started, headers, body

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        answers = await asyncio.gather(*(ask(session) for _ in range(10 * PLACES)))
        started = time.monotonic()
        status, _, _, body = await ask(session)
    assert status == 200, body
    refused = [answer for answer in answers if answer[0] != 200]
    assert {answer[0] for answer in refused} == {503}
    assert len(answers) - len(refused) >= PLACES + QUEUE
    assert all(answer[2]["retry-after"] == "1" and is_openai_error(answer[3]) for answer in refused)
    served = sorted(answer[1] for answer in answers if answer[0] == 200)
    assert sorted(answer[1] for answer in refused)[len(refused) // 2] < served[0]
    assert time.monotonic() - started < max(1.0, 3 * served[0])


async def test_no_wait_for_a_place_is_longer_than_the_longest(crowded):
    crowded.engines[0].does("hang")
    async with aiohttp.ClientSession() as session:
        holders = [asyncio.create_task(post(crowded.sidecar, session, model="pocket")) for _ in range(PLACES)]
        await asyncio.to_thread(wait_until, lambda: crowded.metric("rheostat_in_flight") == PLACES)
        started = time.monotonic()
        status, headers, body = await post(crowded.sidecar, session)
        assert (status, json.loads(body)["error"]["code"], headers["retry-after"]) == (503, "overloaded", "1")
        assert time.monotonic() - started < 30
        for holder in holders:
            holder.cancel()
        await asyncio.gather(*holders, return_exceptions=True)
    await asyncio.to_thread(wait_until, lambda: crowded.metric("rheostat_in_flight") == 0)
    assert crowded.metric("rheostat_shed_total", reason="waited") >= 1


async def test_a_deadline_runs_while_a_request_waits_for_its_place(crowded):
    crowded.engines[0].does("hang")
    async with aiohttp.ClientSession() as session:
        holders = [asyncio.create_task(post(crowded.sidecar, session, rheostat={"deadline_ms": 1500})) for _ in range(PLACES)]
        await asyncio.to_thread(wait_until, lambda: crowded.metric("rheostat_in_flight") == PLACES)
        started = time.monotonic()
        status, _, body = await post(crowded.sidecar, session, rheostat={"deadline_ms": 700})
        assert (status, json.loads(body)["error"]["code"]) == (504, "deadline")
        assert time.monotonic() - started < 20
        assert {answer[0] for answer in await asyncio.gather(*holders)} == {504}


async def test_clients_that_leave_give_their_places_back(crowded):
    crowded.engines[0].does("hang")
    asked = [asyncio.create_task(post(crowded.sidecar, model="pocket")) for _ in range(PLACES + QUEUE)]
    await asyncio.to_thread(wait_until, lambda: crowded.metric("rheostat_queued") == QUEUE)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.to_thread(wait_until, lambda: crowded.metric("rheostat_in_flight") == 0)
    await asyncio.to_thread(wait_until, lambda: crowded.engines[0].running == 0)
    crowded.engines[0].does("ok")
    assert (await post(crowded.sidecar))[0] == 200


async def test_probes_and_metrics_answer_while_every_place_is_taken(crowded):
    crowded.engines[0].does("hang")
    async with aiohttp.ClientSession() as session:
        holders = [asyncio.create_task(post(crowded.sidecar, session, model="pocket")) for _ in range(PLACES)]
        await asyncio.to_thread(wait_until, lambda: crowded.metric("rheostat_in_flight") == PLACES)
        for path in ("/healthz", "/readyz", "/metrics"):
            async with session.get(f"{crowded.sidecar.url}{path}") as response:
                assert response.status == 200
        for holder in holders:
            holder.cancel()
        await asyncio.gather(*holders, return_exceptions=True)


async def test_a_client_that_leaves_while_its_answer_is_checked_frees_the_engine_and_is_billed(crowded):
    engine = crowded.engines[0]
    before, calls = engine.generated, engine.calls
    engine.does(*(("ok", "hang") if calls % 2 == 0 else ("hang", "ok")))
    asked = asyncio.create_task(post(crowded.sidecar, rheostat={"high_stakes": True}))
    await asyncio.to_thread(wait_until, lambda: engine.calls == calls + 2 and engine.running == 1)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await asyncio.to_thread(wait_until, lambda: engine.running == 0)
    await asyncio.to_thread(wait_until, lambda: crowded.outcomes()[-1].status == "client_cancelled")
    assert crowded.outcomes()[-1].ledger.generated == engine.generated - before
