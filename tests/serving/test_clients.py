"""Official clients, unchanged: only their base URL is ours."""

import json

import openai
import pydantic
import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from tests.serving.conftest import Engine, Sidecar, running

QUESTION = "What is 2 plus 3?"
MESSAGES = [{"role": "user", "content": QUESTION}]
VOTES = {"rheostat": {"action": "pocket/self_consistency(k=4)@800"}}
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}},
}
pytestmark = pytest.mark.parametrize("model", ["auto", "pocket"])


class Sum(pydantic.BaseModel):
    """A structured answer."""

    a: int


@pytest.fixture(scope="module")
def forming(tmp_path_factory):
    """A sidecar whose engine calls tools and keeps to schemas."""
    folder = tmp_path_factory.mktemp("clients")
    with running(Engine(folder, model="pocket")) as engine, running(Sidecar(folder, [engine])) as sidecar:
        yield sidecar


@pytest.fixture
def client(forming):
    with openai.OpenAI(base_url=f"{forming.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_chat_whole_and_streamed(client, model):
    answer = client.chat.completions.create(model=model, messages=MESSAGES)
    assert answer.choices[0].message.content
    with client.chat.completions.stream(model=model, messages=MESSAGES) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        assert text == stream.get_final_completion().choices[0].message.content


async def test_async(forming, model):
    async with openai.AsyncOpenAI(base_url=f"{forming.url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(model=model, messages=MESSAGES)
        chunks = [chunk async for chunk in await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)]
    assert answer.choices[0].message.content
    assert chunks[-1].usage.completion_tokens > 0


def test_completions_whole_and_streamed(client, model):
    answer = client.completions.create(model=model, prompt=QUESTION, seed=1, temperature=0)
    chunks = list(client.completions.create(model=model, prompt=QUESTION, seed=1, temperature=0, stream=True))
    assert answer.choices[0].text == "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens


@pytest.mark.parametrize("options", [{}, VOTES])
def test_responses_whole_and_streamed(client, model, options):
    if options and model != "auto":
        options = {}
    assert client.responses.create(model=model, input=QUESTION, extra_body=options).output_text
    with client.responses.stream(model=model, input=QUESTION, extra_body=options) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text
    assert final.usage.output_tokens > 0


def test_tools_and_a_loop_that_goes_on_with_the_model_that_called(client, model):
    first = client.chat.completions.create(model=model, messages=MESSAGES, tools=[ADD])
    (call,) = first.choices[0].message.tool_calls
    assert first.choices[0].finish_reason == "tool_calls"
    assert json.loads(call.function.arguments) == {"a": 1}
    result = {"role": "tool", "tool_call_id": call.id, "content": "5"}
    second = client.chat.completions.create(model=model, messages=[*MESSAGES, first.choices[0].message, result], tools=[ADD])
    assert second.choices[0].message.content
    assert second.rheostat["rule"] == ("session" if model == "auto" else "passthrough")
    assert second.model == first.model


def test_tools_streamed_and_in_responses(client, model):
    with client.chat.completions.stream(model=model, messages=MESSAGES, tools=[ADD]) as stream:
        assert stream.get_final_completion().choices[0].message.tool_calls[0].function.name == "add"
    tool = {"type": "function", **ADD["function"]}
    (called,) = client.responses.create(model=model, input=QUESTION, tools=[tool]).output
    assert (called.name, json.loads(called.arguments)) == ("add", {"a": 1})
    with client.responses.stream(model=model, input=QUESTION, tools=[tool]) as stream:
        assert stream.get_final_response().output[0].arguments == called.arguments


@pytest.mark.parametrize("options", [{}, VOTES])
def test_structured_output_is_parsed(client, model, options):
    if model != "auto":
        options = {}
    answer = client.chat.completions.parse(model=model, messages=MESSAGES, response_format=Sum, extra_body=options)
    assert answer.choices[0].message.parsed == Sum(a=1)
    assert client.responses.parse(model=model, input=QUESTION, text_format=Sum, extra_body=options).output_parsed == Sum(a=1)


def test_logprobs_are_given_where_they_were_asked_for(client, model):
    asked = client.chat.completions.create(model=model, messages=MESSAGES, logprobs=True)
    assert len(asked.choices[0].logprobs.content) == asked.usage.completion_tokens
    assert client.chat.completions.create(model=model, messages=MESSAGES).choices[0].logprobs is None
    text = client.completions.create(model=model, prompt=QUESTION, logprobs=1)
    assert "".join(text.choices[0].logprobs.tokens) == text.choices[0].text


def test_embeddings_need_a_models_own_name(client, model):
    if model == "auto":
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model=model, input="a b c")
        return
    answer = client.embeddings.create(model=model, input=["a b c", "d"], encoding_format="float")
    assert [row.embedding for row in answer.data] == [[5.0], [1.0]]


def test_a_model_is_retrieved_by_its_name(client, model):
    assert client.models.retrieve(model) in client.models.list().data
    with pytest.raises(openai.NotFoundError, match=f"did you mean '{model}'") as caught:
        client.models.retrieve(f"{model}o")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_several_answers(client, model):
    answer = client.chat.completions.create(model=model, messages=MESSAGES, n=3, max_tokens=20)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_an_error_is_the_clients_own_kind_and_names_the_field(client, model):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=MESSAGES, temperature=9)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=model, input=QUESTION, previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


def test_langchain(forming, model):
    chat = ChatOpenAI(base_url=f"{forming.url}/v1", api_key="none", model=model, max_retries=0)
    assert chat.invoke([HumanMessage(QUESTION)]).content
    assert "".join(chunk.content for chunk in chat.stream(QUESTION))
    assert chat.invoke(QUESTION).usage_metadata["output_tokens"] > 0
