import asyncio

import pytest

from rheostat.data.errors import BudgetError, UpstreamError
from rheostat.policies.together import all_of, end_of, succeeded, together


async def give(value):
    await asyncio.sleep(0)
    return value


async def fail(error):
    await asyncio.sleep(0)
    raise error


async def test_results_and_failures_come_in_the_order_of_the_calls():
    away = UpstreamError("away", backend="b")
    assert await together([give(1), fail(away), give(3)]) == [1, away, 3]
    assert await succeeded([give(1), fail(away), give(3)]) == [1, None, 3]


def test_an_error_ends_a_run_for_want_of_budget_or_of_a_model():
    assert end_of(BudgetError("spent")) == "budget"
    assert end_of(UpstreamError("away", backend="b")) == "upstream_failed"


async def test_when_all_fail_the_first_failure_is_raised():
    with pytest.raises(BudgetError, match="first"):
        await succeeded([fail(BudgetError("first")), fail(UpstreamError("second", backend="b"))])


async def test_where_all_are_needed_a_failure_is_raised_once_all_are_over():
    assert await all_of([give(1), give(2)]) == [1, 2]
    over = []

    async def slow():
        for _ in range(5):
            await asyncio.sleep(0)
        over.append(True)

    with pytest.raises(BudgetError, match="spent"):
        await all_of([fail(BudgetError("spent")), slow()])
    assert over == [True]


async def test_a_mistake_is_raised_only_when_every_call_is_over():
    over = []

    async def slow():
        for _ in range(5):
            await asyncio.sleep(0)
        over.append(True)

    with pytest.raises(ZeroDivisionError):
        await together([fail(ZeroDivisionError()), slow()])
    assert over == [True]


async def test_a_cancel_waits_until_every_call_has_ended():
    ended = []

    async def call(at):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(at)

    task = asyncio.create_task(together([call(0), call(1)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [0, 1]
