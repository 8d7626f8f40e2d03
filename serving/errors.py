"""Errors as an OpenAI client expects them: `{"error": {"message", "type", "param", "code"}}` and a status."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from rheostat.data.errors import ActionError, BudgetError, InfeasibleError, RequestError, RheostatError, UpstreamError
from rheostat.serving.limits import LimitError
from rheostat.serving.rate_headers import rate_headers
from rheostat.serving.shapes import ErrorAnswer, Failure
from rheostat.serving.upstream import is_clients_fault

RETRY_AFTER_S = 1


class WireError(NamedTuple):
    """One error answer: status, body, the headers that go with it, and what it is called: its code, or its type where it has none."""

    status: int
    body: bytes
    headers: dict[str, str]
    name: str


def wire_error(
    status: int, message: str, *, param: str | None = None, code: str | None = None, headers: dict[str, str] | None = None
) -> WireError:
    """An error answer of the given status; the `type` follows from it."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    answer = ErrorAnswer(error=Failure(message=message, type=kind, param=param, code=code))
    return WireError(status, msgspec.json.encode(answer), headers or {}, code or kind)


def of_error(error: RheostatError) -> WireError:
    """The answer to an error raised while a request was served."""
    if isinstance(error, RequestError):
        return wire_error(error.status, str(error), param=error.param, code=error.code, headers=_later(error))
    if isinstance(error, InfeasibleError):
        return wire_error(422, str(error), param="rheostat", code="infeasible")
    if isinstance(error, BudgetError):
        return wire_error(400, str(error), param="max_tokens", code="budget_exceeded")
    if isinstance(error, UpstreamError):
        return _of_upstream(error)
    if isinstance(error, ActionError):
        # Actions are checked beforehand; a model that one of them asks for can still be taken out of the configuration.
        return wire_error(503, str(error), code="action_unavailable", headers={"retry-after": str(RETRY_AFTER_S)})
    return wire_error(500, str(error), code="internal")


def _later(error: RequestError) -> dict[str, str]:
    """When to come back, where that is a matter of time, and what the key may use by then."""
    if isinstance(error, LimitError):
        # OpenAI's clients try a 429 again by themselves, unless they are told that it will not help.
        when = {"x-should-retry": "false"} if error.retry_after_s is None else {"retry-after": str(math.ceil(error.retry_after_s))}
        return {**when, **rate_headers(error.allowance)}
    return {"retry-after": str(RETRY_AFTER_S)} if error.status in (429, 503) else {}


def _of_upstream(error: UpstreamError) -> WireError:
    if is_clients_fault(error):
        return wire_error(400, error.told, code="upstream_refused")
    if error.status == 504:
        return wire_error(504, error.told, code="deadline")
    return wire_error(
        503, error.told, code="upstream_unavailable", headers={"retry-after": str(math.ceil(error.retry_after_s or RETRY_AFTER_S))}
    )


_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error", 503: "overloaded_error"}
