"""What `/openapi.json` says is what is served."""

import json

import aiohttp
import jsonschema
import pytest

from rheostat.serving import config
from rheostat.serving.app import Services, build_app
from rheostat.serving.completions import parse_completion
from rheostat.serving.openapi import OPERATIONS, describe
from rheostat.serving.options import Options
from rheostat.serving.responses import parse_response
from rheostat.serving.wire import parse_chat
from tests.serving import garbage

DOCUMENT = describe()
CONFIG = config.Config(backend=(config.BackendConfig(name="a", url="http://127.0.0.1:1", model="pocket"),), tier=config.TIERS)
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
VOTES = {"action": "pocket/self_consistency(k=4)@800", "target_accuracy": 0.5}
ASKED = {
    "/v1/chat/completions": [
        {"model": "auto", "messages": garbage.MESSAGES},
        {"model": "pocket", "messages": garbage.MESSAGES, "n": 2, "max_tokens": 20, "stop": ["x"], "seed": 3, "logit_bias": {"1": 2}},
        {"model": "auto:deep", "messages": garbage.MESSAGES, "rheostat": VOTES, "tools": TOOLS, "temperature": None},
    ],
    "/v1/completions": [
        {"model": "auto", "prompt": "What is 2 plus 3?"},
        {"model": "pocket", "prompt": ["Say it."], "n": 2, "max_tokens": 9},
    ],
    "/v1/responses": [
        {"model": "auto", "input": "What is 2 plus 3?", "instructions": "Be brief.", "rheostat": VOTES},
        {"model": "pocket", "input": [{"role": "user", "content": "Hello."}], "max_output_tokens": 9, "metadata": {"a": "b"}},
    ],
    "/v1/decide": [{"model": "auto", "messages": garbage.MESSAGES}],
}
PARSERS = {"/v1/chat/completions": parse_chat, "/v1/completions": parse_completion, "/v1/responses": parse_response}


def schema(path, method, *, status=None):
    """The schema of a request, or of the answer with a status."""
    operation = DOCUMENT["paths"][path][method]
    described = operation["requestBody"] if status is None else operation["responses"][str(status)]
    return {**described["content"]["application/json"]["schema"], "components": DOCUMENT["components"]}


def test_every_route_is_described_and_nothing_else():
    services = Services(
        config=CONFIG, executor=None, forwarder=None, recorder=None, metrics=None, status=None, finished=None
    )  # fmt: skip
    served = {(route.path_format, method.lower()) for route in build_app(services).routes for method in route.methods if method != "HEAD"}
    assert served == {(operation.path, operation.method) for operation in OPERATIONS}


def test_the_document_is_openapi_and_every_reference_is_there():
    assert DOCUMENT["openapi"] == "3.1.0"
    for name, part in DOCUMENT["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(part)
        assert part, name
    text = json.dumps(DOCUMENT)
    for piece in text.split('"$ref": "#/components/schemas/')[1:]:
        assert piece.split('"')[0] in DOCUMENT["components"]["schemas"]


def test_every_option_is_a_field_and_a_header():
    parameters = DOCUMENT["paths"]["/v1/chat/completions"]["post"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == {"x-rheostat-" + name.replace("_", "-") for name in Options.__struct_fields__}


@pytest.mark.parametrize("path", PARSERS)
def test_what_is_accepted_is_described(path):
    for asked in ASKED[path]:
        PARSERS[path](json.dumps(asked).encode())
        jsonschema.validate(asked, schema(path, "post"))


@pytest.mark.parametrize(("raw", "param"), [pair for pair in garbage.UNKNOWN_FIELDS if "[" not in pair[1]] + garbage.WRONG_TYPES[:20])
def test_what_is_refused_for_its_shape_is_not_described(raw, param):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(raw), schema("/v1/chat/completions", "post"))


@pytest.mark.parametrize("path", list(ASKED))
async def test_real_answers_are_as_described(sidecar, path):
    async with aiohttp.ClientSession() as session:
        for asked in ASKED[path]:
            async with session.post(sidecar.url + path, json=asked) as response:
                answer = await response.json()
                assert response.status == 200, answer
            jsonschema.validate(answer, schema(path, "post", status=200))
        async with session.post(sidecar.url + path, json={"model": "auto", "x": 1}) as response:
            assert response.status == 400
            jsonschema.validate(await response.json(), schema(path, "post", status=400))


async def test_the_sidecar_serves_the_document_and_describes_its_reports(sidecar):
    async with aiohttp.ClientSession() as session:
        assert await (await session.get(f"{sidecar.url}/openapi.json")).json() == DOCUMENT
        for path in ("/v1/models", "/v1/usage"):
            answer = await (await session.get(sidecar.url + path)).json()
            jsonschema.validate(answer, schema(path, "get", status=200))
