"""Whether the client of a request is still there: whoever works for it is stopped the moment it leaves.

The connection tells, so that no task has to wait for the news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Scope

PRESENCE = "presence"  # where it stands in the state of a request

T = TypeVar("T")


class ClientGone(Exception):  # noqa: N818 - not an error of the request: nobody is left to be told
    """The client went away before its answer was complete."""


class Presence:
    """The client of one request, from its head to the end of its answer.

    Attributes:
        has_sent_all: whether the body is here to its end.
    """

    __slots__ = ("_is_gone", "_task", "has_sent_all")

    def __init__(self) -> None:
        self.has_sent_all = False
        self._is_gone = False
        self._task: asyncio.Task[Any] | None = None

    def leave(self) -> None:
        """The client has gone: stop what is done for it."""
        self._is_gone = True
        if self._task is not None:
            self._task.cancel()

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which is cancelled, and awaited, as soon as the client leaves.

        Raises:
            ClientGone: the client left first.
        """
        if self._is_gone:
            work.close()
            raise ClientGone
        task = self._task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        try:
            return await work
        except asyncio.CancelledError:
            if self._ended(task, cancelling):
                raise ClientGone from None
            raise
        finally:
            self._task = None

    def _ended(self, task: asyncio.Task[Any], cancelling: int) -> bool:
        """Whether it was the client's leaving that cancelled the task, and nothing else did."""
        return self._is_gone and task.uncancel() <= cancelling


def presence_of(scope: Scope) -> Presence:
    """The presence that the connection put into a request; of a server that tells nothing, a client that never leaves."""
    found: Presence | None = scope.get("state", {}).get(PRESENCE)
    return Presence() if found is None else found
