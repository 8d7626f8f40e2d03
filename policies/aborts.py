"""Calls that an engine is to abort, gathered: clients that leave together cost it one request, not one each.

vLLM takes aborts where it was started with `--enable-scale-out`. Knows no sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from rheostat.policies.transport import NO_SUCH_PATH

ABORT_PATH = "/inference/v1/abort_requests"
FORBIDDEN = 403  # what vLLM answers there when it was started without `--enable-scale-out`

Post = Callable[[bytes], Awaitable[int]]


class Aborts:
    """Tells one engine which calls to abort. One that has no such path, or forbids it, is asked once, one that is only busy again.

    Args:
        post: posts a body to `ABORT_PATH`, and gives the status of the answer.

    Attributes:
        are_taken: whether the engine takes aborts, as far as is known.
    """

    def __init__(self, post: Post) -> None:
        self.are_taken = True
        self._post = post
        self._ids: list[str] = []
        self._round: asyncio.Task[bool] | None = None

    async def abort(self, ids: Sequence[str]) -> bool:
        """Have calls aborted, with all that others want aborted in the same moment; whether the engine was told."""
        if not self.are_taken:
            return False
        self._ids += ids
        if self._round is None:
            self._round = asyncio.create_task(self._tell())
        return await asyncio.shield(self._round)

    async def _tell(self) -> bool:
        await asyncio.sleep(0)  # in which the others join
        ids, self._ids, self._round = self._ids, [], None
        try:
            status = await self._post(msgspec.json.encode({"request_ids": ids}))
        except OSError:
            return False
        if status == FORBIDDEN or status in NO_SUCH_PATH:
            self.are_taken = False
        return status == 200
