"""Official clients with real engines behind: what they ask for is honoured, whatever API it is asked through."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from langchain_openai import ChatOpenAI

from tests.e2e.conftest import Stack

QUESTION = "What is 23 + 45?"
VOTES = {"rheostat": {"action": "pocket/self_consistency(k=4)@768"}}


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.mark.parametrize("options", [{}, VOTES])
def test_responses_are_the_same_whole_and_streamed_in_shape(client: openai.OpenAI, options: dict[str, object]) -> None:
    whole = client.responses.create(model="auto", input=QUESTION, extra_body=options)
    with client.responses.stream(model="auto", input=QUESTION, extra_body=options) as stream:
        streamed = stream.get_final_response()

    for answer in (whole, streamed):
        assert answer.status == "completed"
        assert answer.output_text.strip()
        assert answer.usage is not None
        assert answer.usage.output_tokens > 0


def test_a_prompt_is_answered_as_a_chat(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model="auto", prompt=QUESTION, stream=True))

    assert "".join(choice.text for chunk in chunks for choice in chunk.choices).strip()
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_a_seed_gives_the_same_answer_again(client: openai.OpenAI) -> None:
    def ask() -> str | None:
        chat = client.chat.completions.create(
            model="pocket", messages=[{"role": "user", "content": QUESTION}], seed=7, temperature=0.9, max_tokens=48
        )
        return chat.choices[0].message.content

    assert ask() == ask()


def test_log_probabilities_are_one_a_token(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="pocket", messages=[{"role": "user", "content": QUESTION}], logprobs=True, top_logprobs=2, max_tokens=16
    )
    logprobs = answer.choices[0].logprobs

    assert logprobs is not None
    assert logprobs.content
    assert all(len(token.top_logprobs) >= 2 and token.logprob <= 0 for token in logprobs.content)


@pytest.mark.parametrize("model", ["auto", "pocket"])
def test_a_schema_is_kept(client: openai.OpenAI, model: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "yes", "schema": {"enum": ["yes", "no"]}}}
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Is 5 larger than 3?"}], response_format=wanted, max_tokens=16
    )  # type: ignore[call-overload]

    assert answer.choices[0].message.content in ('"yes"', '"no"')


def test_several_answers_are_several_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": QUESTION}], n=3)

    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_langchain_whole_and_streamed(stack: Stack) -> None:
    chat = ChatOpenAI(base_url=f"{stack.url}/v1", api_key="none", model="auto", max_retries=0)

    assert chat.invoke(QUESTION).content
    assert "".join(str(chunk.content) for chunk in chat.stream(QUESTION)).strip()
