"""Official clients with real engines behind: what they ask for is honoured, whatever API it is asked through."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pydantic
import pytest
from langchain_openai import ChatOpenAI

from tests.e2e.clients import install_npm, told_by_litellm, told_by_npm
from tests.e2e.conftest import Stack

NPM_FOLDER = Path(__file__).parents[2] / ".rheostat" / "npm"

QUESTION = "What is 23 + 45?"
VOTES = {"rheostat": {"action": "pocket/self_consistency(k=4)@768"}}


MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
SIGN = {"type": "object", "properties": {"sign": {"enum": ["plus", "minus"]}}, "required": ["sign"], "additionalProperties": False}
CALCULATE: Any = {"type": "function", "function": {"name": "calculate", "parameters": SIGN, "strict": True}}
CHOSEN: Any = {"type": "function", "function": {"name": "calculate"}}


class Verdict(pydantic.BaseModel):
    """A structured answer."""

    larger: Literal["yes", "no"]


@pytest.fixture(scope="session")
def no_blanks(stack: Stack) -> dict[str, int]:
    """A bias against blanks: a model as small as these goes on with them for as long as a grammar lets it."""
    return {str(token): -100 for blank in " \n\t" for token in _tokens(stack, blank)}


@pytest.fixture(scope="session")
def npm() -> Path:
    """Where the openai npm package is."""
    install_npm(NPM_FOLDER)
    return NPM_FOLDER


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.mark.parametrize("options", [{}, VOTES])
def test_a_chat_whole_and_streamed(client: openai.OpenAI, options: dict[str, object]) -> None:
    whole = client.chat.completions.create(model="auto", messages=MESSAGES, extra_body=options)
    with client.chat.completions.stream(model="auto", messages=MESSAGES, extra_body=options) as stream:
        streamed = stream.get_final_completion()

    assert whole.choices[0].message.content
    assert streamed.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0


async def test_an_asynchronous_client(stack: Stack) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        whole = await client.chat.completions.create(model="auto", messages=MESSAGES)
        chunks = [chunk async for chunk in await client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)]

    assert whole.choices[0].message.content
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].usage is not None


def test_a_tool_is_called_whole_and_streamed(client: openai.OpenAI, no_blanks: dict[str, int]) -> None:
    form: Any = {"tools": [CALCULATE], "tool_choice": CHOSEN, "logit_bias": no_blanks, "max_tokens": 128}
    asked: Any = {"model": "pocket", "messages": MESSAGES, **form}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion()

    for answer in (whole, streamed):
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert call.function.name == "calculate"
        assert json.loads(call.function.arguments)["sign"] in ("plus", "minus")


@pytest.mark.parametrize("model", ["auto", "pocket"])
def test_structured_output_is_parsed(client: openai.OpenAI, no_blanks: dict[str, int], model: str) -> None:
    chat = client.chat.completions.parse(model=model, messages=MESSAGES, response_format=Verdict, logit_bias=no_blanks, max_tokens=64)
    wanted: Any = {"format": {"type": "json_schema", "name": "yes", "schema": {"enum": ["yes", "no"]}}}
    response = client.responses.create(model=model, input=QUESTION, text=wanted, max_output_tokens=16)

    assert isinstance(chat.choices[0].message.parsed, Verdict)
    assert response.output_text in ('"yes"', '"no"')


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


def test_litellm_as_a_client(stack: Stack, no_blanks: dict[str, int]) -> None:
    told = told_by_litellm(f"{stack.url}/v1", no_blanks)

    assert all(told[way]["text"].strip() for way in ("whole", "streamed", "async"))
    assert told["tool"]["name"] == "calculate"
    assert json.loads(told["tool"]["given"])["sign"] in ("plus", "minus")
    assert told["refused"] == {"kind": "BadRequestError", "status": 400}


def test_the_npm_package(stack: Stack, no_blanks: dict[str, int], npm: Path) -> None:
    told = told_by_npm(f"{stack.url}/v1", no_blanks, npm)

    assert all(told[way]["text"].strip() for way in ("whole", "streamed", "thinking", "responses"))
    assert told["responses"]["streamed"].strip()
    assert told["whole"]["tokens"] > 0
    assert told["streamed"]["tokens"] > 0
    assert told["whole"]["decision"]
    assert told["structured"]["text"] in ('"yes"', '"no"')
    assert told["tool"]["name"] == "calculate"
    assert json.loads(told["tool"]["given"])["sign"] in ("plus", "minus")
    assert told["refused"] == {"kind": "BadRequestError", "status": 400, "param": "temperature"}


def _tokens(stack: Stack, text: str) -> list[int]:
    body = json.dumps({"model": "pocket", "prompt": text, "add_special_tokens": False}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{stack.url}/tokenize", body), timeout=60) as answer:
        tokens: list[int] = json.loads(answer.read())["tokens"]
    return tokens
