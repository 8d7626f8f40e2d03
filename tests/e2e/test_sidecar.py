"""The sidecar in front of real engines, driven by the official client."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterable

import openai
import pytest

from rheostat.data.outcomes import OutcomeReader
from rheostat.demonstration import generated_tokens
from tests.e2e.conftest import Stack

QUESTIONS = (
    "What is 23 + 45?",
    "Tara has 12 beads. Tara buys 7 more. How many beads does Tara have now?",
    "Which number is the largest? (A) 345 (B) 354 (C) 92",
    "Sort these letters alphabetically: d b k",
)


@pytest.fixture
def client(stack: Stack) -> Iterable[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_models_lists_tiers_and_backends(client: openai.OpenAI) -> None:
    assert {"auto", "auto:quick", "auto:deep", "pocket", "pocket-large"} <= {model.id for model in client.models.list()}


@pytest.mark.parametrize(
    "action", ["pocket/direct@64", "pocket-large/cot@256", "pocket/self_consistency(k=4)@768", "pocket/best_of_n(n=4)@768"]
)
def test_every_strategy_books_what_the_engine_counts(stack: Stack, client: openai.OpenAI, action: str) -> None:
    before = generated_tokens(stack.engines.values())
    booked = 0
    for question in QUESTIONS:
        answer = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": question}], extra_body={"rheostat": {"action": action}}
        )
        assert answer.model_extra is not None
        assert answer.model_extra["rheostat"]["action"] == action
        assert answer.usage is not None
        booked += answer.usage.completion_tokens

    assert booked == generated_tokens(stack.engines.values()) - before > 0


@pytest.mark.parametrize("action", ["pocket/cot@256", "pocket-large/self_consistency(k=4)@768"])
def test_a_stream_gives_the_same_pieces_as_any_openai_server(client: openai.OpenAI, action: str) -> None:
    stream = client.chat.completions.create(
        model="auto:deep", messages=[{"role": "user", "content": QUESTIONS[1]}], stream=True,
        stream_options={"include_usage": True}, extra_body={"rheostat": {"action": action}},
    )  # fmt: skip
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert text.strip()
    assert any(chunk.usage is not None and chunk.usage.completion_tokens > 0 for chunk in chunks)


async def test_a_backends_own_name_is_passed_through_and_booked(stack: Stack, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="pocket", messages=[{"role": "user", "content": QUESTIONS[0]}], max_tokens=64)

    assert answer.model_extra is not None
    await _until(lambda: _is_settled(stack))
    with OutcomeReader(stack.store) as store:
        decision = store.decision(answer.model_extra["rheostat"]["decision_id"])
    assert decision is not None
    assert decision.rule == "passthrough"


def test_high_stakes_are_checked_by_a_real_model_and_the_checks_are_booked(stack: Stack, client: openai.OpenAI) -> None:
    before = generated_tokens(stack.engines.values())
    booked = checked = 0
    for question in QUESTIONS:
        answer = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": question}], extra_body={"rheostat": {"high_stakes": True}}
        )
        assert answer.model_extra is not None
        assert answer.model_extra["rheostat"]["verified"] in (True, False, None)
        checked += answer.model_extra["rheostat"]["ledger"]["verifier"]
        assert answer.usage is not None
        booked += answer.usage.completion_tokens

    assert checked > 0
    assert booked == generated_tokens(stack.engines.values()) - before


async def test_cancelled_clients_free_the_engine_and_every_token_is_booked(stack: Stack) -> None:
    await _until(lambda: _is_settled(stack))
    before, booked_before = generated_tokens(stack.engines.values()), _booked(stack)
    await _ask_and_leave(stack, 8, stream=False)
    await _until(lambda: _running(stack) == 0)
    await _until(lambda: _is_settled(stack))

    assert _booked(stack) - booked_before == generated_tokens(stack.engines.values()) - before


async def test_a_hundred_streams_of_many_samples_that_are_left_free_the_engine(stack: Stack) -> None:
    await _ask_and_leave(stack, 100, stream=True)
    await _until(lambda: _running(stack) == 0)
    await _until(lambda: _is_settled(stack))


async def _ask_and_leave(stack: Stack, n_clients: int, *, stream: bool) -> None:
    """That many clients at once, who all leave as soon as the engine works for them."""
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        calls = [asyncio.create_task(_ask_for_many(client, i, stream=stream)) for i in range(n_clients)]
        await _until(lambda: _running(stack) > 0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def _ask_for_many(client: openai.AsyncOpenAI, number: int, *, stream: bool) -> None:
    """Sixteen samples, read to the end."""
    answer = await client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": f"Count the letter a in {'a b c d ' * 8}. ({number})"}],
        stream=stream,
        extra_body={"rheostat": {"action": "pocket-large/self_consistency(k=16)@3072"}},
    )  # type: ignore[call-overload]
    if stream:
        async for _ in answer:
            pass


def _booked(stack: Stack) -> int:
    with OutcomeReader(stack.store) as store:
        return sum(row.outcome.ledger.generated for row in store.rows_after(0, 1_000_000) if row.outcome is not None)


def _is_settled(stack: Stack) -> bool:
    """Whether all that the sidecar did is in the store."""
    with urllib.request.urlopen(f"{stack.url}/readyz", timeout=10) as answer:
        queued = json.loads(answer.read())["store"]["queued"]
    with OutcomeReader(stack.store) as store:
        return bool(queued == 0 and store.counts().unfinished == 0)


def _running(stack: Stack) -> float:
    with urllib.request.urlopen(f"{stack.engines['pocket-large']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running"))


async def _until(condition, timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.02)
