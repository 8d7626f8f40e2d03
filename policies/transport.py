"""What can go wrong on the way to a server, as the one error that callers handle."""

from __future__ import annotations

from types import TracebackType

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.policies.http_client import UnreachableError
from rheostat.policies.http_connection import Connection

# Under the 5 s after which vLLM closes an idle connection, so that a call does not meet it half closed.
KEEPALIVE_S = 2.0
MAX_ERROR_BYTES = 4096
NO_SUCH_PATH = (404, 405, 501)
RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})


class NotSentError(UpstreamError):
    """No connection, so nothing was sent and nothing is booked."""


class TransportErrors:
    """Turns what the HTTP client raises into UpstreamError, saying what to look at."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, UnreachableError):
            told = f"{self._name} cannot be reached"
            raise NotSentError(f"{told} at {self._url}: is it running?", backend=self._name, retryable=True, told=told) from error
        if isinstance(error, TimeoutError):
            raise UpstreamError(f"{self._name} did not answer in time", backend=self._name, retryable=True) from error
        if isinstance(error, OSError) and not isinstance(error, UpstreamError):
            broke = f"{self._name} broke the connection: {error or type(error).__name__}"
            raise UpstreamError(broke, backend=self._name, retryable=True) from error


async def refusal(name: str, answer: Connection) -> UpstreamError:
    """The error that an answer other than 200 stands for, also where its body does not come."""
    try:
        body = await answer.read_up_to(MAX_ERROR_BYTES)
    except OSError:
        body = b""
    return UpstreamError(
        f"{name} answered {answer.status}: {_reason(body) or 'no reason given'}",
        backend=name,
        status=answer.status,
        retryable=answer.status in RETRYABLE,
        retry_after_s=_seconds(answer.headers.get("retry-after")),
    )


def _reason(body: bytes) -> str:
    """What an error body says."""
    try:
        content = msgspec.json.decode(body)
        error = content.get("error", content)
        return str(error.get("message", "") if isinstance(error, dict) else error)
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError):
        return body.decode("utf-8", "replace")[:200]


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header; its other form, a date, is not used by engines."""
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else None
