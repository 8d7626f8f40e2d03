import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt, Query
from rheostat.policies.base import Completion, Generation
from rheostat.training.lanes import MAX_TRIES, Pool
from rheostat.training.samplers import Job, Sampler

SAMPLER = Sampler(model="m", strategy="cot", temperature=0.8, k=99, max_tokens=16)
QUERY = Query.of_text("1 + 1?", query_id="q", dataset="d")


class Ledgerless:
    """Work that remembers which jobs were kept and which were given up."""

    def __init__(self):
        self.kept, self.given_up = [], []

    def book(self, attempt):
        pass

    def request(self, job):
        return job.sampler.request(job.query, job.start, job.n, 0)

    async def keep(self, job, generation):
        self.kept.append(job.start)

    def give_up(self, job, error):
        self.given_up.append(job.start)


class Backend:
    """Fails by a list of marks, one a call (`r` retryable, `x` refused, anything else works); works when it is used up."""

    name = "b"

    def __init__(self, marks=""):
        self.marks = list(marks)
        self.in_flight = self.most = self.calls = 0

    async def generate(self, request, book):
        mark = self.marks.pop(0) if self.marks else "."
        self.calls += 1
        self.in_flight += request.n
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= request.n
        if mark in "rx":
            raise UpstreamError("no", backend="b", retryable=mark == "r")
        attempt = Attempt(model="m", kind="completion", status="ok", ledger=Ledger(), latency_s=0.0, n=request.n)
        return Generation(completions=(Completion(index=0, text="", completion_tokens=0),), attempt=attempt)

    async def close(self):
        pass


def todo(sizes):
    return [Job(QUERY, SAMPLER, start, n) for start, n in enumerate(sizes)]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("rx.", max_size=12), min_size=1, max_size=3), st.lists(st.integers(1, 8), max_size=12), st.sampled_from([0.0, 60.0])
)
def test_every_job_is_settled_exactly_once_whatever_fails(marks, sizes, patience_s):
    work, backends = Ledgerless(), [Backend(marks) for marks in marks]
    asyncio.run(Pool(work, backends, todo(sizes), room=8, backoff_s=0.0, patience_s=patience_s).run())
    assert sorted(work.kept + work.given_up) == list(range(len(sizes)))
    assert all(backend.most <= 8 for backend in backends)


async def test_a_job_is_tried_a_bounded_number_of_times():
    work, backend = Ledgerless(), Backend("r" * 99)
    await Pool(work, [backend], todo([1]), room=8, backoff_s=0.0).run()
    assert (backend.calls, work.given_up) == (MAX_TRIES, [0])


async def test_a_lane_that_only_fails_closes_and_the_other_does_the_rest():
    work, dead, alive = Ledgerless(), Backend("r" * 999), Backend()
    await Pool(work, [dead, alive], todo([1] * 50), room=1, backoff_s=0.0, patience_s=0.0).run()
    assert len(work.kept) == 50
    assert dead.calls <= 2


async def test_an_error_that_is_not_a_backends_ends_the_pool():
    class Broken(Ledgerless):
        async def keep(self, job, generation):
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await Pool(Broken(), [Backend()], todo([1] * 5), room=1).run()


@pytest.mark.parametrize(("marks", "warnings"), [("", 0), ("x", 0), ("rrr", 1), ("r.r.", 2)])
async def test_a_backend_that_begins_to_fail_is_told_once_and_again_after_it_worked(marks, warnings, caplog):
    jobs = [Job(query=QUERY, sampler=SAMPLER, start=start, n=1) for start in range(6)]
    await Pool(Ledgerless(), [Backend(marks)], jobs, room=1, backoff_s=1e-4, patience_s=60).run()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["no: trying again for 60 s"] * warnings
