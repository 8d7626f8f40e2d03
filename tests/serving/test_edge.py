import asyncio

import pytest
from starlette.responses import PlainTextResponse

from rheostat.data.errors import RequestError
from rheostat.serving import context
from rheostat.serving.admission import Admission
from rheostat.serving.edge import Edge
from rheostat.serving.metrics import Metrics

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Kept:
    def __init__(self):
        self.lines = []

    def write(self, line):
        self.lines.append(line)


class Client:
    """Drives the edge with a given body, piece by piece; None never comes."""

    def __init__(self, app, *, places=1, max_queued=0, body_timeout_s=30.0):
        self.log = Kept()
        self.admission = Admission(places=places, max_queued=max_queued, max_wait_s=0.01, metrics=Metrics())
        self.edge = Edge(app, admission=self.admission, log=self.log, body_timeout_s=body_timeout_s)
        self.sent = []

    async def ask(self, *parts, path="/v1/chat/completions", headers=()):
        pieces = list(parts)

        async def receive():
            if not pieces or pieces[0] is None:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message):
            self.sent.append(message)

        await self.edge({"type": "http", "method": "POST", "path": path, "headers": list(headers)}, receive, send)


async def read_all(receive):
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body


async def test_a_request_has_a_place_once_its_body_is_in_and_until_its_answer_is_out():
    seen = []

    async def app(scope, receive, send):
        seen.append(client.admission.in_flight)
        seen.append(await read_all(receive))
        seen.append(client.admission.in_flight)
        await PlainTextResponse("x")(scope, receive, send)
        seen.append(client.admission.in_flight)

    client = Client(app)
    await client.ask(b"a", b"b")
    assert seen == [0, b"ab", 1, 1]
    assert client.admission.in_flight == 0
    assert client.log.lines[0]["status"] == 200


async def test_a_crash_of_the_application_gives_the_place_back_and_is_logged():
    async def app(scope, receive, send):
        await receive()
        raise ZeroDivisionError

    client = Client(app)
    with pytest.raises(ZeroDivisionError):
        await client.ask(b"")
    assert client.admission.in_flight == 0
    assert client.log.lines[0]["status"] == 500


async def test_a_body_that_does_not_end_is_refused_and_holds_no_place():
    async def app(scope, receive, send):
        with pytest.raises(RequestError) as refused:
            await read_all(receive)
        assert (refused.value.status, refused.value.param) == (408, "body")

    client = Client(app, body_timeout_s=0.01)
    await client.ask(b"a", None)
    assert client.admission.in_flight == 0


async def test_where_no_place_is_to_be_had_the_application_is_told():
    async def app(scope, receive, send):
        with pytest.raises(RequestError) as refused:
            await receive()
        assert refused.value.status == 503

    client = Client(app, places=1)
    await client.admission.enter()
    await client.ask(b"")
    assert client.admission.in_flight == 1


async def test_the_trace_and_the_notes_of_a_request_are_its_own_also_in_its_tasks():
    async def app(scope, receive, send):
        async def task():
            context.note(decision_id="d")
            assert context.trace_headers()["traceparent"] == PARENT.decode()
            assert context.waited_s() >= 0.0

        await asyncio.create_task(task())

    client = Client(app)
    await asyncio.create_task(client.ask(headers=[(b"traceparent", PARENT)]))
    (line,) = client.log.lines
    assert (line["decision_id"], line["trace_id"], line["path"]) == ("d", PARENT[3:35].decode(), "/v1/chat/completions")
    assert context.trace_headers() == {}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/detokenize"])
async def test_every_request_for_an_engine_has_a_place_and_a_line_in_the_log(path):
    seen = []

    async def app(scope, receive, send):
        await read_all(receive)
        seen.append(client.admission.in_flight)

    client = Client(app)
    await client.ask(b"", path=path)
    assert seen == [1]
    assert [line["path"] for line in client.log.lines] == [path]


async def test_probes_and_metrics_are_answered_also_when_all_places_are_taken():
    async def app(scope, receive, send):
        await read_all(receive)

    client = Client(app)
    await client.admission.enter()
    await client.ask(b"", path="/healthz")
    assert client.log.lines == []
