"""One thread for whatever asks an encoder that takes milliseconds, and a bound on how long a decision waits for it.

The bound is on the wait and the work together: under load a decision without an embedding is better than a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from rheostat.data.schema import Decision
from rheostat.router.ask import Ask, Decides

ENCODER_LATE = "encoder_late"


class DecidesUnread(Decides, Protocol):
    """A controller that can also decide before a text is encoded."""

    def decide_unread(self, ask: Ask) -> Decision:
        """`decide` without the embedding; takes no longer than any other decision."""
        ...


class EncoderWorker:
    """Decides in a thread of its own, one request after the other: encoders use several cores by themselves.

    Whoever waits however long it takes does so in another thread, so that the queue of the others stays short.

    Args:
        deadline_s: for which a request waits.
        on_late: told of every decision that was made without its embedding.
    """

    def __init__(self, *, deadline_s: float, on_late: Callable[[], None]) -> None:
        self._deadline_s = deadline_s
        self._on_late = on_late
        self._thread, self._patient = (ThreadPoolExecutor(max_workers=1, thread_name_prefix=name) for name in ("encoder", "patient"))

    async def decide(self, controller: DecidesUnread, ask: Ask) -> Decision:
        """The decision, without the embedding where that is not there in time; errors as `Decides.decide`.

        A strict request asks for what only the encoder can tell, and waits for it, beside those that do not.
        """
        if ask.constraints.strict:
            return await asyncio.get_running_loop().run_in_executor(self._patient, controller.decide, ask)
        encoded = asyncio.get_running_loop().run_in_executor(self._thread, controller.decide, ask)
        try:
            await asyncio.wait({encoded}, timeout=self._deadline_s)
        finally:
            # One that has not begun is taken out of the queue, so that the queue is never longer than the deadline.
            is_late = encoded.cancel()
        if not is_late:
            return encoded.result()
        self._on_late()
        return _unread(controller.decide_unread(ask))

    async def explain(self, controller: Decides, ask: Ask) -> dict[str, Any]:
        """What `Decides.explain` says, with the embedding, however long that takes; no decision waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._patient, controller.explain, ask)


def _unread(decision: Decision) -> Decision:
    """The decision as what it is: nothing is to be learned from what stood in for the embedding, nor promised by it."""
    guarantee = decision.guarantee and decision.guarantee.withdrawn()
    return msgspec.structs.replace(decision, embedding=None, guarantee=guarantee, degraded=decision.degraded or ENCODER_LATE)
