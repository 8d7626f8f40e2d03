"""Texts of requests that come in one turn of the loop, read in one go.

Most of a decision is a few array operations that take nearly as long for one text as for ten. Nobody waits for others to
come: what is there when the loop comes round is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import accumulate, groupby
from operator import attrgetter
from typing import NamedTuple, Protocol

from rheostat.data.schema import Decision
from rheostat.router.ask import Ask, Decides
from rheostat.router.readable import MAX_CHARACTERS
from rheostat.router.situation import Seen

AT_ONCE = 32  # texts; more gain nothing
CHARACTERS = 16_000  # of them together: the loop is held up for milliseconds, also by hostile ones


class DecidesRead(Decides, Protocol):
    """A controller that can be asked beforehand what it makes of texts."""

    def read(self, texts: list[str]) -> list[Seen]:
        """What it makes of each."""
        ...

    def decide(self, ask: Ask, seen: Seen | None = None) -> Decision:
        """`Decides.decide`, with what it made of the text where that is known."""
        ...


class _Waiting(NamedTuple):
    controller: DecidesRead
    text: str
    seen: asyncio.Future[Seen]


class TurnReader:
    """Gathers texts until the loop comes round."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    async def read(self, controller: DecidesRead, text: str) -> Seen:
        """What the controller makes of a text; raises whatever it raises on that text."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._read_some)
        waiting = _Waiting(controller, text, loop.create_future())
        self._waiting.append(waiting)
        return await waiting.seen

    def _read_some(self) -> None:
        n_some = _that_fit(self._waiting)
        some, self._waiting = self._waiting[:n_some], self._waiting[n_some:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._read_some)
        for controller, its in groupby(some, attrgetter("controller")):
            _answer(controller, [*its])


def _that_fit(waiting: Sequence[_Waiting]) -> int:
    """How many of the first ones go into one read; the very first one always does."""
    lengths = accumulate([min(len(each.text), MAX_CHARACTERS) for each in waiting[:AT_ONCE]])
    return max(1, sum([length <= CHARACTERS for length in lengths]))


def _answer(controller: DecidesRead, waiting: Sequence[_Waiting]) -> None:
    try:
        found = [*zip(waiting, controller.read([each.text for each in waiting]), strict=True)]
    except Exception as error:  # noqa: BLE001  a model file can fail in any way, and whoever waits is told
        _answer_one_by_one(controller, waiting, error)
        return
    for each, seen in found:
        if not each.seen.done():  # its client may be gone
            each.seen.set_result(seen)


def _answer_one_by_one(controller: DecidesRead, waiting: Sequence[_Waiting], error: Exception) -> None:
    """One text that cannot be read must not take the others with it."""
    if len(waiting) > 1:
        for each in waiting:
            _answer(controller, [each])
    elif not waiting[0].seen.done():
        waiting[0].seen.set_exception(error)
