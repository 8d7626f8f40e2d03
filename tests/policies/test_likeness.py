import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import Query
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.likeness import Drawn, compare, likeness

QUESTIONS = [Query.of_text(f"What is {a}+{b}?", kind="number", reference=str(a + b)) for a in range(1, 9) for b in range(10)]
PLAIN = {query.text: {query.reference: 0.74, "0": 0.16, "": 0.10} for query in QUESTIONS}
DESTROYED = {query.text: {query.reference: 0.01, "0": 0.09, "": 0.90} for query in QUESTIONS}
# Right as often, but wrong in another way.
SHIFTED = {query.text: {query.reference: 0.74, "9999": 0.26} for query in QUESTIONS}


async def held_against_plain(answers, questions=QUESTIONS, seed=0):
    plain, other = (FakeBackend("plain", model=FakeModel(PLAIN)), FakeBackend("other", model=FakeModel(answers)))
    return await compare(plain, other, questions, models=("plain", "other"), seed=seed)


async def test_an_engine_that_says_the_same_is_alike():
    found = await held_against_plain(PLAIN)
    assert found.is_alike, found.verdict
    assert abs(found.difference) <= found.half_width
    assert found.verdict.startswith("as the plain engine: accuracy 0.")


async def test_speculation_that_destroys_sampled_answers_is_caught():
    found = await held_against_plain(DESTROYED)
    assert found.is_other
    assert not found.is_alike
    assert found.profile_accuracy < 0.1 < 0.6 < found.plain_accuracy
    assert "not as the plain engine" in found.verdict


async def test_other_answers_at_the_same_accuracy_are_caught_too():
    found = await held_against_plain(SHIFTED)
    assert abs(found.difference) <= found.half_width
    assert found.p_same_answers < 0.01
    assert found.is_other


async def test_on_too_few_questions_it_says_that_it_cannot_tell():
    found = await held_against_plain(PLAIN, QUESTIONS[:8])
    assert (found.is_other, found.is_alike) == (False, False)
    assert found.verdict.startswith("cannot tell on 8 questions")


async def test_progress_ends_at_one_and_an_engine_that_fails_is_an_error():
    shares = []
    plain = FakeBackend("plain", model=FakeModel(PLAIN))
    await compare(plain, plain, QUESTIONS[:4], models=("a", "a"), on_progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    with pytest.raises(UpstreamError):
        await compare(plain, FakeBackend("b", faults=["refuse"]), QUESTIONS[:1], models=("a", "b"))


class Slow:
    """Never answers, and takes its time to settle once it is cancelled."""

    def __init__(self, name, settled):
        self.name = name
        self._settled = settled

    async def generate(self, request, book):
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(9 if self.name == "slow" else 0):
                await asyncio.sleep(0)
            self._settled.append(self.name)


async def test_a_comparison_that_is_cancelled_ends_when_both_engines_have_settled():
    settled = []
    pair = Slow("quick", settled), Slow("slow", settled)
    task = asyncio.create_task(compare(*pair, QUESTIONS[:1], models=("a", "b")))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert settled == ["quick", "slow"]


SAME = st.lists(st.lists(st.sampled_from("abc"), min_size=4, max_size=4), min_size=4, max_size=12)


@given(SAME, st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_identical_answers_are_never_told_apart(rows, seed):
    drawn = [(Drawn(tuple(row), row.count("a") / 4),) * 2 for row in rows]
    found = likeness(drawn, seed=seed)
    assert (found.difference, found.p_same_answers, found.is_other) == (0.0, 1.0, False)


def test_a_plain_engine_is_refused_about_as_rarely_as_promised():
    import random

    rng = random.Random(1)

    def draw():
        answers = tuple(rng.choices("abc", weights=(7, 2, 1), k=4))
        return Drawn(answers, answers.count("a") / 4)

    refused = sum(likeness([(draw(), draw()) for _ in range(30)], seed=number).is_other for number in range(60))
    assert refused <= 6
