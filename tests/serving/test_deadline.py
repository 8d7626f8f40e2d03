"""A job ends at its deadline, with one error."""

import asyncio
import time

import pytest

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import Decision, Query
from rheostat.serving.deadline import GATEWAY_TIMEOUT, by_deadline, has_passed
from rheostat.serving.job import Job


@pytest.fixture
def job():
    decision = Decision(decision_id="d_1", query_id="q_1", created_s=0.0, action="pocket/cot@64", propensity=1.0)
    return Job(decision, Query(query_id="q_1", messages=({"role": "user", "content": "2 + 2?"},)), {})


async def test_what_is_not_done_at_the_deadline_is_cancelled_and_late(job):
    with pytest.raises(UpstreamError, match=r"pocket/cot@64 had no answer before the deadline") as caught:
        await by_deadline(0.0, job, asyncio.Event().wait())
    assert caught.value.status == GATEWAY_TIMEOUT


@pytest.mark.parametrize("deadline_s", [None, 30.0])
async def test_a_timeout_of_something_inside_is_not_the_deadlines(job, deadline_s):
    async def times_out():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await by_deadline(deadline_s, job, times_out())


def test_without_a_deadline_none_has_passed():
    now_s = time.monotonic()
    assert has_passed(0.0, now_s)
    assert not has_passed(None, now_s - 1e6)
    assert not has_passed(1e6, now_s)
