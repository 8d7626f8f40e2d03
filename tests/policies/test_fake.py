import asyncio
from collections import Counter

import pytest

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import GenerateRequest, Meter, Said
from rheostat.policies.fake import FakeBackend, FakeModel, question_of
from rheostat.policies.reply import Reply


def request(**fields):
    defaults = {"model": "m", "messages": ({"role": "user", "content": "What is 3+4?"},), "max_tokens": 200, "temperature": 0.8, "seed": 1}
    return GenerateRequest(**(defaults | fields))


def test_answers_come_with_their_probabilities():
    model = FakeModel({"3+4": {"7": 0.75, "8": 0.25}})
    counts = Counter("7" in model.speak("What is 3+4?", seed, 200).text for seed in range(2000))
    assert 0.70 < counts[True] / 2000 < 0.80


def test_one_seed_is_one_text_and_it_is_cut_at_the_cap():
    model = FakeModel()
    whole = model.speak("q", 3, 200)
    assert model.speak("q", 3, 200) == whole
    cut = model.speak("q", 3, 5)
    assert (cut.words, cut.finish_reason) == (whole.words[:5], "length")
    assert model.speak("q", 3, 5, endless=True).finish_reason == "length"


async def test_greedy_calls_do_not_depend_on_the_seed():
    texts = {(await FakeBackend().generate(request(temperature=0.0, seed=seed), Meter(999))).completions[0].text for seed in range(9)}
    assert len(texts) == 1


async def test_the_stream_says_what_the_call_says():
    whole = await FakeBackend().generate(request(n=3), Meter(999))
    said, read = Said(), Reply(request(n=3), "fake")
    chunks = [chunk async for chunk in FakeBackend().stream(request(n=3), Meter(999), said=said)]
    for chunk in chunks:
        read.feed(chunk)
    assert [c.text for c in read.completions] == [c.text for c in whole.completions]
    assert said.completions == whole.completions
    assert read.done
    assert chunks[-1] == b"data: [DONE]\n\n"
    assert [chunk async for chunk in FakeBackend().stream(request(n=3), Meter(999))] == chunks


async def test_a_refused_call_is_not_booked():
    meter = Meter(999)
    with pytest.raises(UpstreamError):
        await FakeBackend(faults=["refuse"]).generate(request(), meter)
    assert meter.attempts == []


async def test_a_late_call_misses_a_short_limit():
    backend, meter = FakeBackend(faults=["late"], latency_s=10.0), Meter(999)
    with pytest.raises(UpstreamError, match="in time"):
        await backend.generate(request(timeout_s=0.01), meter)
    assert [a.status for a in meter.attempts] == ["failed"]
    await backend.close()


async def test_faults_come_in_turn():
    backend, meter = FakeBackend(faults=["ok", "garbage"]), Meter(9999)
    texts = [(await backend.generate(request(), meter)).completions[0].text for _ in range(3)]
    assert texts[0] == texts[2] != texts[1]


async def test_a_hanging_call_that_is_cancelled_is_booked():
    backend, meter = FakeBackend(faults=["hang"]), Meter(999)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(backend.generate(request(), meter), 0.01)
    assert meter.ledger.wasted == backend.generated_tokens > 0


def test_the_question_is_the_text_of_the_last_message():
    assert question_of([{"content": "a"}, {"content": [{"type": "text", "text": "b"}]}]) == "b"
    assert question_of([]) == ""
