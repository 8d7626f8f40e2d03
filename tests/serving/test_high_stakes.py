"""Requests with high stakes through a running sidecar with a judge, which the fake engine plays: it finds everything right."""

import asyncio
import json

import aiohttp
import openai
import pytest

from tests.serving import garbage
from tests.serving.bundles import write_bundle
from tests.serving.conftest import Sidecar, get, running

HIGH = {"rheostat": {"high_stakes": True}}
MORE = """
[router]
bundle = "{bundle}"
cache = "{cache}"
[judge]
model = "pocket"
[tier.balanced]
target_accuracy = 0.85
[tier.careful]
target_accuracy = 0.5
high_stakes = true
"""


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory, engine):
    folder = tmp_path_factory.mktemp("stakes")
    more = MORE.format(bundle=write_bundle(folder / "one", version="one"), cache=folder / "cache")
    with running(Sidecar(folder, [engine], more=more)) as started:
        yield started


@pytest.fixture
def client(sidecar):
    with openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("auto", {"extra_body": HIGH}),
        ("auto", {"extra_headers": {"x-rheostat-high-stakes": "true"}}),
        ("auto:careful", {}),
        ("pocket", {"extra_body": HIGH, "n": 2}),
    ],
)
def test_an_answer_was_checked_before_it_went_out_and_the_check_is_on_the_bill(client, engine, model, fields):
    before = engine.generated
    answer = client.chat.completions.create(model=model, messages=garbage.MESSAGES, **fields)
    assert answer.rheostat["verified"] is True
    assert answer.rheostat["ledger"]["verifier"] > 0
    assert answer.usage.completion_tokens == engine.generated - before


def test_other_answers_are_not_checked(client):
    answer = client.chat.completions.create(model="auto", messages=garbage.MESSAGES)
    assert (answer.rheostat["verified"], answer.rheostat["ledger"]["verifier"]) == (None, 0)


@pytest.mark.parametrize(("model", "n"), [("auto", 1), ("pocket", 1), ("pocket", 2)])
async def test_nothing_of_a_stream_goes_out_before_the_check(sidecar, model, n):
    fields = {"model": model, "messages": garbage.MESSAGES, "n": n, "stream": True, **HIGH}
    async with aiohttp.ClientSession() as session, session.post(f"{sidecar.url}/v1/chat/completions", json=fields) as response:
        events = (await response.read()).decode().split("\n\n")
    chunks = [json.loads(each.removeprefix("data: ")) for each in events if each.startswith("data: {")]
    assert events[-2:] == ["data: [DONE]", ""]
    assert chunks[-1]["rheostat"]["verified"] is True
    texts = [choice for chunk in chunks for choice in chunk["choices"] if choice["delta"].get("content")]
    assert sorted(choice["index"] for choice in texts) == list(range(n))  # each answer in one piece


def test_the_responses_api_tells_it_too(client):
    assert client.responses.create(model="auto", input="What is 2 plus 3?", extra_body=HIGH).rheostat["verified"] is True


async def test_checks_are_counted(client, sidecar):
    await asyncio.to_thread(client.chat.completions.create, model="auto", messages=garbage.MESSAGES, extra_body=HIGH)
    assert b'rheostat_verifications_total{result="passed"}' in get(f"{sidecar.url}/metrics")
