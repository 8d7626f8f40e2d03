"""`/openapi.json`: the API described from the structs that read requests and write answers, so that it cannot lie."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from rheostat import __version__
from rheostat.serving.completions import CompletionBody
from rheostat.serving.feedback import Feedback, Judged
from rheostat.serving.options import Options, header_of
from rheostat.serving.passthrough import DetokenizeBody, EmbeddingsBody, TokenizeBody
from rheostat.serving.responses import ResponseBody
from rheostat.serving.shapes import ChatCompletion, ErrorAnswer, Model, Models, Response, TextCompletion, UsageReport
from rheostat.serving.usage import MAX_DAYS
from rheostat.serving.wire import ChatBody

REF = "#/components/schemas/{name}"
JSON = "application/json"
EVENTS = "text/event-stream"

# Refused for what was sent, for who sent it, for what it is about, and for lack of means, in the order of statuses.
REFUSALS = (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504)


class Operation(NamedTuple):
    """One path: what it takes, what it gives. Without an `answer` the body is free-form JSON."""

    method: str
    path: str
    summary: str
    body: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    streams: bool = False
    options: bool = False
    parameters: tuple[dict[str, Any], ...] = ()
    media: str = JSON
    open: bool = False


DAYS = {"name": "days", "in": "query", "required": False, "schema": {"type": "integer", "minimum": 1, "maximum": MAX_DAYS, "default": 1}}
NAME = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}

OPERATIONS = (
    Operation("post", "/v1/chat/completions", "Answer a chat.", ChatBody, ChatCompletion, streams=True, options=True),
    Operation("post", "/v1/completions", "Answer a prompt.", CompletionBody, TextCompletion, streams=True, options=True),
    Operation(
        "post", "/v1/responses", "Answer a chat, in the words of OpenAI's newer API.", ResponseBody, Response, streams=True, options=True
    ),
    Operation("post", "/v1/decide", "Decide without spending.", ChatBody, options=True),
    Operation("post", "/v1/feedback", "Judge an earlier answer.", Feedback, Judged),
    Operation("post", "/v1/embeddings", "Embed texts; passed on to the engine.", EmbeddingsBody),
    Operation("post", "/tokenize", "Tokenize; passed on to the engine.", TokenizeBody),
    Operation("post", "/detokenize", "Undo tokenizing; passed on to the engine.", DetokenizeBody),
    Operation("get", "/v1/models", "List what `model` may be.", answer=Models),
    Operation("get", "/v1/models/{model}", "One value of `model`, where it is served.", answer=Model, parameters=(NAME,)),
    Operation("get", "/v1/usage", "What the key's tenant used, by day of UTC.", answer=UsageReport, parameters=(DAYS,)),
    Operation("get", "/healthz", "Whether the process answers.", open=True),
    Operation("get", "/readyz", "Whether requests can be served, and what they need.", open=True),
    Operation("get", "/metrics", "Prometheus metrics.", media="text/plain", open=True),
    Operation("get", "/openapi.json", "This description.", open=True),
)


@lru_cache(maxsize=1)
def describe() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    structs = [kind for operation in OPERATIONS for kind in (operation.body, operation.answer) if kind is not None]
    _, schemas = msgspec.json.schema_components([*structs, ErrorAnswer, Options], ref_template=REF)
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas["Options"])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rheostat sidecar", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(operation: Operation, options: dict[str, Any]) -> dict[str, Any]:
    parameters = [*operation.parameters, *(_headers(options) if operation.options else ())]
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": re.sub(r"\W+", "_", operation.path).strip("_"),
        "parameters": parameters,
        "responses": _responses(operation),
        "security": [] if operation.open else [{"key": []}],
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(operation.body)}}}
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {operation.media: {"schema": {} if operation.answer is None else _ref(operation.answer)}}
    if operation.streams:
        content[EVENTS] = {"schema": {"type": "string"}}
    refusal = {"description": "Refused; the error says why.", "content": {JSON: {"schema": _ref(ErrorAnswer)}}}
    not_ready = {"description": "Not ready.", "content": {JSON: {"schema": {}}}}
    refusals = {"503": not_ready} if operation.open else {str(status): refusal for status in REFUSALS}
    return {"200": {"description": "Done.", "content": content}, **refusals}


def _headers(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Every option as the header that may carry it."""
    return [
        {"name": header_of(name), "in": "header", "required": False, "schema": schema} for name, schema in options["properties"].items()
    ]


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": REF.format(name=kind.__name__)}
