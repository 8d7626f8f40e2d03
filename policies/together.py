"""Calls at the same time, all of them over before anything goes on.

`asyncio.gather` alone returns at the first error or cancellation and leaves its other calls running: what those spend
would be booked after the run had ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from rheostat.data.errors import BudgetError, UpstreamError

T = TypeVar("T")
Failed = UpstreamError | BudgetError


def end_of(error: Failed) -> str:
    """Why a run ends that cannot go on after an error: there is no budget left, or a model failed."""
    return "budget" if isinstance(error, BudgetError) else "upstream_failed"


async def together(calls: Iterable[Awaitable[T]]) -> list[T | Failed]:
    """What each call gave, in their order, or the error it failed with; any other error is raised once all are over."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    kept: list[T | Failed] = []
    for each in ended:
        if isinstance(each, BaseException) and not isinstance(each, Failed):
            raise each
        kept.append(each)
    return kept


async def all_of(calls: Iterable[Awaitable[T]]) -> list[T]:
    """What each call gave, in their order.

    Raises:
        UpstreamError: one of them failed, and all are over; so does BudgetError. The first failure is the one told.
    """
    ended = await together(calls)
    for each in ended:
        if isinstance(each, Failed):
            raise each
    return [each for each in ended if not isinstance(each, Failed)]


async def succeeded(calls: Sequence[Awaitable[T]]) -> list[T | None]:
    """What each call gave, None where it failed.

    Raises:
        UpstreamError: all of them failed; so does BudgetError. The first failure is the one told.
    """
    ended = await together(calls)
    if ended and all(isinstance(each, Failed) for each in ended):
        raise next(each for each in ended if isinstance(each, Failed))
    return [None if isinstance(each, Failed) else each for each in ended]
