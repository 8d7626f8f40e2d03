"""Requests to one HTTP/1.1 server over connections that are kept between them. Knows no JSON and no model."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

from rheostat.policies.http_connection import Connection

NO_HEADERS: Mapping[str, str] = {}
PORTS = {"http": 80, "https": 443}


class Sent:
    """Whether a request went out, or at least a part of it, for whoever has to book it however it ends."""

    def __init__(self) -> None:
        self.so_far = False


class UnreachableError(ConnectionError):
    """No connection, so nothing was sent."""


class Origin(NamedTuple):
    """Where a server is: the parts of its URL, and the credentials in it as a header's value."""

    scheme: str
    host: str
    port: int
    path: str
    authority: str
    credentials: str | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """The origin that a URL names.

        Raises:
            ValueError: it names none.
        """
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or _breaks_lines(url):
            raise ValueError(f"{url!r} is no http or https address")
        port = parts.port or PORTS[parts.scheme]
        return cls(
            parts.scheme, parts.hostname, port, parts.path, parts.netloc.rpartition("@")[2], _credentials(parts.username, parts.password)
        )


class HttpClient:
    """Sends requests to one server. Made anywhere; used on one event loop.

    Args:
        url: the server's address; paths of requests come behind its own.
        headers: sent with every request.
        connect_timeout_s: for a connection.
        idle_timeout_s: between two reads of one answer.
        keepalive_s: for which an unused connection is kept.
        max_exchanges: at once; more wait.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        connect_timeout_s: float,
        idle_timeout_s: float,
        keepalive_s: float,
        max_exchanges: int,
    ) -> None:
        self._url = url
        self._headers = headers
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._keepalive_s = keepalive_s
        self._places = asyncio.Semaphore(max_exchanges)
        self._idle: deque[tuple[float, Connection]] = deque()
        self._busy: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._origin: Origin | None = None
        self._common = ""
        self._ssl: ssl.SSLContext | None = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] = NO_HEADERS,
        until: float,
        sent: Sent | None = None,
    ) -> Connection:
        """Send a request and wait for the head of its answer; whoever gets it gives it to `release` in the end.

        Args:
            method: GET or POST.
            path: behind the server's own.
            body: of a POST.
            headers: besides those of every request.
            until: time of the loop by which the whole answer has to be there.
            sent: told once there is a connection, right before the request goes out on it.

        Raises:
            UnreachableError: no connection, nothing was sent.
            TimeoutError: no head in time.
            OSError: the connection broke.
            ValueError: a header would break the request's lines.
        """
        await self._place(until)
        connection: Connection | None = None
        try:
            connection = self._kept() or await self._connected(until)
            self._busy.add(connection)
            request = self._request(method, path, body, headers)
            if sent is not None:
                sent.so_far = True
            connection.send(request, until=until)
            await connection.head()
            return connection
        except BaseException:
            self._places.release()
            if connection is not None:
                self._busy.discard(connection)
                connection.close()
            raise

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] = NO_HEADERS,
        until: float,
        sent: Sent | None = None,
    ) -> AsyncIterator[Connection]:
        """`send`, with the release at the end of a block."""
        answer = await self.send(method, path, body=body, headers=headers, until=until, sent=sent)
        try:
            yield answer
        finally:
            self.release(answer)

    def release(self, answer: Connection) -> None:
        """Keep the connection of an answer that was read to its end; any other is closed, which tells the server to stop."""
        if answer not in self._busy:
            return
        self._busy.discard(answer)
        self._places.release()
        if not answer.is_reusable:
            answer.close()
            return
        loop = asyncio.get_running_loop()
        self._idle.append((loop.time(), answer))
        if self._sweep is None:
            self._sweep = loop.call_later(self._keepalive_s, self._drop_old)

    def close(self) -> None:
        """Close all connections, also those in use."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in (*self._busy, *(connection for _, connection in self._idle)):
            connection.close()
        self._idle.clear()

    async def _place(self, until: float) -> None:
        if self._places.locked():
            async with asyncio.timeout_at(until):
                await self._places.acquire()
        else:
            await self._places.acquire()

    def _kept(self) -> Connection | None:
        """The connection used last, which is the one that is least likely to be closed."""
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_open and asyncio.get_running_loop().time() - since < self._keepalive_s:
                return connection
            connection.close()
        return None

    async def _connected(self, until: float) -> Connection:
        loop = asyncio.get_running_loop()
        due = min(until, loop.time() + self._connect_timeout_s)
        try:
            origin = self._where()
            async with asyncio.timeout_at(due):
                _, connection = await loop.create_connection(
                    lambda: Connection(idle_timeout_s=self._idle_timeout_s), origin.host, origin.port, ssl=self._ssl
                )
        except (OSError, ValueError) as error:
            raise UnreachableError(f"no connection to {self._url}: {error or type(error).__name__}") from error
        return connection

    def _where(self) -> Origin:
        """The server's origin; a URL that names none is found out here, since a client may be made long before it is used."""
        if self._origin is None:
            origin = Origin.parse(self._url)
            # Bodies are given as they come, so none may be compressed; without the header a server may choose.
            own = {"Host": origin.authority, "Accept-Encoding": "identity"}
            credentials = {"Authorization": origin.credentials} if origin.credentials else {}
            self._common = _lines(own | credentials | dict(self._headers))
            self._ssl = ssl.create_default_context() if origin.scheme == "https" else None
            self._origin = origin
        return self._origin

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        return f"{method} {self._where().path}{path} HTTP/1.1\r\n{self._common}{_lines(headers)}{length}\r\n".encode("latin-1") + body

    def _drop_old(self) -> None:
        """Close connections that were not used for long, and look again when the next one is due."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        while self._idle and loop.time() - self._idle[0][0] >= self._keepalive_s:
            self._idle.popleft()[1].close()
        if self._idle:
            self._sweep = loop.call_at(self._idle[0][0] + self._keepalive_s, self._drop_old)


def _lines(headers: Mapping[str, str]) -> str:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError(f"a header breaks its line: {', '.join(headers)}")
    return lines


def _breaks_lines(url: str) -> bool:
    return any(character <= " " for character in url) or not url.isascii()


def _credentials(username: str | None, password: str | None) -> str | None:
    if username is None:
        return None
    pair = f"{unquote(username)}:{unquote(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
