"""Bodies and heads made to hurt: refused by name, before any engine is called, and the event loop goes on."""

import asyncio
import gzip
import io
import json
import socket
from contextlib import suppress

import aiohttp
import pytest

from rheostat.serving.loop_watch import EVERY_S
from tests.faults.conftest import CHAT, metric
from tests.serving import garbage

STALL_S = 0.05
LOOKS = 6  # a busy machine holds a process up now and then; what holds the loop up does so every time


def nested(depth):
    return b'{"model": "auto", "messages": ' + b"[" * depth + b"]" * depth + b"}"


LARGE = {
    "a million keys": b"{" + b",".join(b'"k%d": 1' % i for i in range(1_000_000)) + b"}",
    "as many keys as fit": b"{" + b",".join(b'"k%d": 1' % i for i in range(250_000)) + b"}",
    "as many keys as fit, deeper": garbage.body(metadata={f"k{i}": "" for i in range(200_000)}),
    "one key again and again": b'{"model": "auto", ' + b",".join([b'"n": 1'] * 400_000) + b"}",
    "a list of small values": garbage.body(stop=["x"] * 500_000),
    "half a million messages": garbage.body(messages=[{}] * 500_000),
    "depth of a million": nested(1_000_000),
    "one number of four megabytes": b'{"model": "auto", "n": ' + b"9" * 4_000_000 + b"}",
    "one key of four megabytes": b'{"' + b"k" * 4_000_000 + b'": 1}',
    "one unfinished text": b'{"model": "' + b"x" * 4_000_000,
    "escapes only": b'{"model": "' + b"\\u0041" * 600_000 + b'"}',
    "quotes only": b'"' * 4_000_000,
    "brackets that never close": b"[{" * 1_900_000,
    "spaces": b" " * 4_000_000,
    "surrogates": b'{"model": "' + b"\\ud800" * 600_000 + b'"}',
    "a word of a megabyte as a stop": garbage.body(stop="x" * 1_000_000),
    "a word of a megabyte as a model": garbage.body(model="x" * 1_000_000),
    "biases": garbage.body(logit_bias={str(i): 1 for i in range(200_000)}),
    "tools": garbage.body(tools=[{"type": "function"}] * 150_000),
    "a zip bomb": gzip.compress(b" " * 100_000_000, compresslevel=1),
    "too much": b" " * 20_000_000,
}
PRODUCTS = {
    "n times tokens": {"n": 128, "max_tokens": 16_384},
    "samples": {"rheostat": {"action": "pocket/self_consistency(k=100000)@100000000"}},
    "rounds": {"rheostat": {"action": "pocket/refine(rounds=100000)@16384"}},
    "simulations": {"rheostat": {"action": "pocket/mcts(sims=1000000)@16384"}},
    "tokens": {"rheostat": {"action": "pocket/cot@1000000000000"}},
}


def stalls(sidecar):
    """How often the loop was held up for longer than it may be."""
    name = "rheostat_loop_lag_seconds"
    return metric(sidecar, f"{name}_count") - metric(sidecar, f"{name}_bucket", le=str(STALL_S))


async def send(session, sidecar, body, headers=None):
    async with session.post(f"{sidecar.url}/v1/chat/completions", data=io.BytesIO(body), headers=headers) as response:
        return response.status, json.loads(await response.read())["error"]


@pytest.mark.parametrize("name", LARGE)
async def test_a_large_abusive_body_is_refused_without_an_upstream_call(single, name):
    before = single.engines[0].calls
    async with aiohttp.ClientSession() as session:
        status, error = await send(session, single.sidecar, LARGE[name])
    assert status in (400, 413)
    assert error["param"]
    assert error["message"]
    assert len(error["message"]) < 2_000
    assert single.engines[0].calls == before


async def test_a_zip_bomb_is_not_unpacked(single):
    async with aiohttp.ClientSession() as session:
        status, error = await send(session, single.sidecar, LARGE["a zip bomb"], {"content-encoding": "gzip"})
    assert (status, error["param"]) == (415, "content-encoding")


@pytest.mark.parametrize("name", PRODUCTS)
async def test_what_a_request_may_generate_is_bounded_as_a_product(single, name):
    before = single.engines[0].calls
    async with aiohttp.ClientSession() as session:
        status, error = await send(session, single.sidecar, json.dumps({**CHAT, **PRODUCTS[name]}).encode())
    assert status == 400
    assert error["param"]
    assert single.engines[0].calls == before


async def test_the_event_loop_is_never_held_up_by_what_is_sent(single):
    """What seems to hold the loop up is sent again: what does so only now and then is the machine."""
    sent = {**{name: [body] for name, body in LARGE.items()}, "small ones": [body for body, _ in garbage.ALL]}
    async with aiohttp.ClientSession() as session:

        async def holds_up(bodies):
            for _ in range(LOOKS):
                before = stalls(single.sidecar)
                for body in bodies:
                    await send(session, single.sidecar, body)
                await asyncio.sleep(2 * EVERY_S)  # until the loop was looked at once more
                if stalls(single.sidecar) == before:
                    return False
            return True

        guilty = [name for name, bodies in sent.items() if await holds_up(bodies)]
    assert guilty == []


@pytest.mark.parametrize("start", [b"GET /healthz HTTP/1.1\r\nauthorization: Bearer ", b"GET /"])
def test_a_head_of_megabytes_is_refused(single, start):
    before = single.metric("rheostat_connections_cut_total", reason="large_head")
    with socket.create_connection(("127.0.0.1", single.sidecar.port), timeout=30) as connection:
        said = b""
        with suppress(ConnectionError):
            connection.sendall(start + b"x" * 4_000_000)
        with suppress(ConnectionError):
            said = connection.recv(65536)
    assert not said or said.startswith(b"HTTP/1.1 431 ")
    assert single.metric("rheostat_connections_cut_total", reason="large_head") == before + 1
    assert single.sidecar.ready()["ready"]
