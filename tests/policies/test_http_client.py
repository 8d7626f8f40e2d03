"""Connections kept, counted and let go of; requests that say what was meant."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager

import pytest

from rheostat.policies.http_client import HttpClient, Origin, UnreachableError
from tests.policies.bare import Bare, says, whole

FAR_S = 20.0


def client_of(url, **fields):
    defaults = {"connect_timeout_s": 2.0, "idle_timeout_s": FAR_S, "keepalive_s": FAR_S, "max_exchanges": 8}
    return HttpClient(url, **(defaults | fields))


def soon():
    return asyncio.get_running_loop().time() + FAR_S


@asynccontextmanager
async def serving(say, path="", **fields):
    async with Bare(say) as server:
        client = client_of(server.url + path, **fields)
        try:
            yield server, client
        finally:
            client.close()


async def fetched(client, method="GET", path="/", **fields):
    async with client.exchange(method, path, until=soon(), **fields) as answer:
        return await answer.read_all()


async def test_a_request_says_what_was_asked_with_the_headers_of_all_and_its_own():
    async with serving(says(whole()), path="/under", headers={"X-All": "1"}) as (server, client):
        assert await fetched(client, "POST", "/path", body=b"{}", headers={"X-Own": "2"}) == b"fine"
        assert await fetched(client) == b"fine"
        host = server.url.removeprefix("http://")
    post, get = server.requests
    of_all = f"HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: identity\r\nX-All: 1\r\n"
    assert post == f"POST /under/path {of_all}X-Own: 2\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    assert get == f"GET /under/ {of_all}\r\n".encode()


async def test_one_connection_serves_requests_in_a_row():
    async with serving(says(whole())) as (server, client):
        for _ in range(5):
            await fetched(client)
    assert (server.connections, len(server.requests)) == (1, 5)


async def test_an_answer_not_read_to_its_end_closes_its_connection():
    async with serving(says(whole()[:-1])) as (server, client):
        answer = await client.send("GET", "/", until=soon())
        client.release(answer)
        async with asyncio.timeout(FAR_S):
            await server.gone.wait()


async def test_releasing_twice_frees_one_place():
    async with serving(says(whole()), max_exchanges=1) as (_, client):
        answer = await client.send("GET", "/", until=soon())
        await answer.read_all()
        client.release(answer)
        client.release(answer)
        held = await client.send("GET", "/", until=soon())
        with pytest.raises(TimeoutError):
            await client.send("GET", "/", until=asyncio.get_running_loop().time() + 0.05)
        client.release(held)
        assert await fetched(client) == b"fine"


async def test_a_cancelled_request_closes_its_connection_and_frees_its_place():
    async with serving(says(b""), max_exchanges=1) as (server, client):
        task = asyncio.create_task(client.send("GET", "/", until=soon()))
        while not server.requests:  # noqa: ASYNC110 - the server has no event for a request
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(FAR_S):
            await server.gone.wait()
        server._say = says(whole())
        assert await fetched(client) == b"fine"


async def test_connections_unused_for_long_are_closed():
    async with serving(says(whole()), keepalive_s=0.05) as (server, client):
        await fetched(client)
        async with asyncio.timeout(FAR_S):
            await server.gone.wait()
        await fetched(client)
    assert server.connections == 2


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used():
    async with serving(says(whole(), close=True)) as (server, client):
        await fetched(client)
        await server.gone.wait()
        await asyncio.sleep(0.01)
        assert await fetched(client) == b"fine"
    assert server.connections == 2


async def test_after_a_close_the_client_connects_anew():
    async with serving(says(whole())) as (server, client):
        await fetched(client)
        client.close()
        assert await fetched(client) == b"fine"
    assert server.connections == 2


async def test_nobody_there_is_told_apart_from_a_broken_connection():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(UnreachableError):
            await fetched(client_of(f"http://127.0.0.1:{port}"))
    async with serving(says(b"", close=True)) as (_, client):
        with pytest.raises(ConnectionError, match="closed") as caught:
            await fetched(client)
    assert not isinstance(caught.value, UnreachableError)


async def test_a_server_that_takes_no_connection_is_unreachable_in_time(monkeypatch):
    async def never(*_, **__):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
    with pytest.raises(UnreachableError):
        await fetched(client_of("http://127.0.0.1:1", connect_timeout_s=0.05))


@pytest.mark.parametrize("url", ["nowhere", "ftp://x", "http://", "http://a b", "http://x:99999", "http://[::1"])
async def test_an_address_that_is_none_is_unreachable(url):
    with pytest.raises(UnreachableError):
        await fetched(client_of(url))


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\0b"])
async def test_a_header_cannot_break_its_line(value):
    async with serving(says(whole())) as (server, client):
        with pytest.raises(ValueError, match="breaks its line: X-Own"):
            await fetched(client, headers={"X-Own": value})
        assert await fetched(client) == b"fine"
    assert b"evil" not in b"".join(server.requests)


def test_an_address_is_taken_apart():
    origin = Origin.parse("https://ann:p%40ss@example.org/base")
    assert origin == ("https", "example.org", 443, "/base", "example.org", "Basic YW5uOnBAc3M=")
    assert Origin.parse("http://[::1]:8000")[:5] == ("http", "::1", 8000, "", "[::1]:8000")


async def test_https_checks_the_servers_certificate(monkeypatch):
    given = []

    async def refused(_, host, port, *, ssl):
        given.append((host, port, ssl.verify_mode, ssl.check_hostname))
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refused)
    with pytest.raises(UnreachableError):
        await fetched(client_of("https://example.org"))
    assert given == [("example.org", 443, ssl.CERT_REQUIRED, True)]


async def test_over_https_nothing_is_sent_to_a_server_that_speaks_no_tls():
    async with Bare(says(b"")) as server:
        with pytest.raises(UnreachableError) as caught:
            await fetched(client_of(server.url.replace("http:", "https:"), connect_timeout_s=0.2))
    assert isinstance(caught.value.__cause__, TimeoutError | ssl.SSLError | OSError)
    assert server.requests == []
