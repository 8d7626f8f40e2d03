"""A slow encoder never makes a request wait for longer than it may."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest

from rheostat.data.schema import Constraints, Decision, Guarantee, Query
from rheostat.router.ask import Ask
from rheostat.serving.encoder_worker import EncoderWorker

ASK = Ask(Query.of_text("hello there"))
FAR_S = 20.0
PROMISE = Guarantee(target=0.8, confidence=0.95, holds=True, attainable=0.9)


def decision(how):
    return Decision(
        decision_id="d-1",
        query_id="q-1",
        created_s=0.0,
        action="pocket/cot@64",
        propensity=1.0,
        rule=how,
        embedding=b"xx",
        guarantee=PROMISE,
    )


class Slow:
    """Decides once it may."""

    def __init__(self, error=None):
        self.may = threading.Event()
        self.begun = 0
        self.threads = set()
        self.error = error

    def decide(self, ask):
        self.begun += 1
        self.threads.add(threading.current_thread().name)
        assert self.may.wait(FAR_S)
        if self.error is not None:
            raise self.error
        return decision("read")

    def decide_unread(self, ask):
        return decision("unread")

    def explain(self, ask):
        assert self.may.wait(FAR_S)
        return {"seen": ask.query.text}


def worker(deadline_s):
    late = []
    return EncoderWorker(deadline_s=deadline_s, on_late=lambda: late.append(True)), late


async def test_a_decision_that_is_there_in_time_is_the_encoders():
    slow, (made, late) = Slow(), worker(FAR_S)
    slow.may.set()
    assert (await made.decide(slow, ASK)).rule == "read"
    assert late == []
    assert all(name.startswith("encoder") for name in slow.threads)


async def test_a_decision_that_is_late_is_made_without_the_encoder():
    slow, (made, late) = Slow(), worker(0.01)
    late_one = await made.decide(slow, ASK)
    assert (late_one.rule, late_one.degraded, late_one.embedding) == ("unread", "encoder_late", None)
    assert late == [True]
    slow.may.set()


async def test_what_waited_too_long_is_never_begun():
    slow, (made, late) = Slow(), worker(0.05)
    decided = await asyncio.gather(*(made.decide(slow, ASK) for _ in range(5)))
    assert [each.rule for each in decided] == ["unread"] * 5
    assert len(late) == 5
    slow.may.set()
    made._deadline_s = FAR_S
    assert (await made.decide(slow, ASK)).rule == "read"
    assert slow.begun == 2  # the one that was under way, and the last


async def test_a_late_decision_promises_nothing_and_a_strict_request_waits():
    slow, (made, _) = Slow(), worker(0.01)
    assert (await made.decide(slow, ASK)).guarantee.holds is False
    strict = asyncio.create_task(made.decide(slow, replace(ASK, defaults=Constraints(strict=True))))
    await asyncio.sleep(0.05)
    assert not strict.done()
    slow.may.set()
    assert (await strict).guarantee.holds


async def test_errors_of_the_controller_are_its_own():
    slow, (made, _) = Slow(error=ZeroDivisionError()), worker(FAR_S)
    slow.may.set()
    with pytest.raises(ZeroDivisionError):
        await made.decide(slow, ASK)


async def test_a_cancelled_request_waits_for_nothing():
    slow, (made, late) = Slow(), worker(FAR_S)
    task = asyncio.create_task(made.decide(slow, ASK))
    await asyncio.sleep(0)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < FAR_S / 2
    assert late == []
    slow.may.set()


async def test_no_decision_waits_for_those_that_wait_however_long_it_takes():
    patient, quick, (made, late) = Slow(), Slow(), worker(FAR_S)
    quick.may.set()
    strict = asyncio.create_task(made.decide(patient, replace(ASK, defaults=Constraints(strict=True))))
    explained = asyncio.create_task(made.explain(patient, ASK))
    await asyncio.sleep(0)
    assert (await made.decide(quick, ASK)).rule == "read"
    assert late == []
    assert not strict.done()
    patient.may.set()
    assert (await strict).rule == "read"
    assert await explained == {"seen": "hello there"}
