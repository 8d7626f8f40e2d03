"""What a client sees of a running sidecar, through the official client where it can say it."""

import io
import json
import re
from collections import Counter

import aiohttp
import openai
import pytest

from rheostat.data.outcomes import OutcomeReader
from rheostat.serving.stream import without_usage
from tests.serving import garbage
from tests.serving.conftest import get

MESSAGES = garbage.MESSAGES
VOTES = "pocket/self_consistency(k=4)@800"


@pytest.fixture(scope="module")
def client(sidecar):
    with openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


def ask(client, model="auto", **fields):
    return client.chat.completions.create(model=model, messages=MESSAGES, **fields)


def outcome(sidecar, decision_id):
    with OutcomeReader(sidecar.store) as store:
        return store.decision(decision_id), store.outcome(decision_id)


def test_models_are_the_tiers_and_the_backends(client):
    assert [model.id for model in client.models.list()] == [
        "auto", "auto:quick", "auto:balanced", "auto:deep", "pocket", "pocket-large",
    ]  # fmt: skip


def test_an_answer_carries_its_decision_and_the_usage_of_everything_spent(client, engine):
    before = engine.generated
    answer = ask(client, extra_body={"rheostat": {"action": VOTES}})
    told = answer.rheostat
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == engine.generated - before == told["ledger"]["completion"]
    assert (told["action"], told["samples"], told["tier"], told["rule"]) == (VOTES, 4, "balanced", "forced")
    assert 0 < told["agreement"] <= 1
    assert told["cost_usd"] == pytest.approx(answer.usage.completion_tokens / 1e6)


def test_the_decision_header_names_the_decision(client):
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=MESSAGES)
    assert raw.headers["x-rheostat-decision"] == raw.parse().rheostat["decision_id"]


def test_a_larger_model_costs_its_own_price(client):
    answer = ask(client, extra_body={"rheostat": {"action": "pocket-large/cot@100"}})
    assert answer.rheostat["cost_usd"] == pytest.approx(5 * answer.usage.completion_tokens / 1e6)


def test_a_model_named_by_the_client_is_passed_through_but_booked(client, sidecar, wait):
    answer = ask(client, "pocket", n=3, max_tokens=20)
    assert len(answer.choices) == 3
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.rheostat["rule"] == "passthrough"
    decision, result = wait(
        lambda: all(outcome(sidecar, answer.rheostat["decision_id"])) and outcome(sidecar, answer.rheostat["decision_id"])
    )
    assert decision.action == "pocket/passthrough@60"
    assert result.ledger.completion == answer.usage.completion_tokens


@pytest.mark.parametrize(
    ("model", "options"), [("auto", {}), ("pocket", {}), ("auto", {"action": VOTES}), ("auto", {"action": VOTES, "progress": True})]
)
def test_a_stream_ends_with_usage_and_the_decision(client, engine, model, options):
    before = engine.generated
    chunks = list(ask(client, model, stream=True, extra_body={"rheostat": options}))
    last = chunks[-1]
    assert last.choices == []
    assert last.usage.completion_tokens == engine.generated - before > 0
    assert last.rheostat["decision_id"].startswith("d-")
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]


@pytest.mark.parametrize("model", ["pocket", "auto"])
def test_a_stream_has_one_id_and_says_what_it_took_once(client, model):
    chunks = list(ask(client, model, stream=True, max_tokens=30))
    assert len(chunks) > 3
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert all(chunk.choices for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("pocket", {}),
        ("auto", {}),
        ("auto", {"action": "pocket/cot@256"}),
        ("auto", {"action": VOTES}),
        ("auto", {"action": VOTES, "strict": True}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_no_request_generates_more_than_it_says(client, engine, model, options, stream):
    before, most = engine.generated, 9
    answer = ask(client, model, stream=stream, extra_body={"rheostat": {**options, "max_tokens_total": most}})
    usage = [*answer][-1].usage if stream else answer.usage
    assert 0 < usage.completion_tokens == engine.generated - before <= most


def test_several_answers_share_what_a_request_may_generate(client):
    assert ask(client, "pocket", n=4, extra_body={"rheostat": {"max_tokens_total": 30}}).usage.completion_tokens <= 30
    with pytest.raises(openai.BadRequestError, match="3 tokens are fewer than the 4 answers"):
        ask(client, "pocket", n=4, extra_body={"rheostat": {"max_tokens_total": 3}})


def test_a_named_action_gives_one_answer(client):
    with pytest.raises(openai.BadRequestError, match="a named action gives one answer, not 2") as refused:
        ask(client, n=2, extra_body={"rheostat": {"action": VOTES}})
    assert refused.value.param == "n"


def test_progress_is_reasoning_only_when_asked_for(client):
    def reasoning(**options):
        chunks = ask(client, stream=True, extra_body={"rheostat": {"action": VOTES, **options}})
        return [getattr(choice.delta, "reasoning_content", None) for chunk in chunks for choice in chunk.choices]

    assert any(reasoning(progress=True))
    assert not any(reasoning())


async def test_a_single_call_is_passed_on_verbatim_up_to_the_end_mark(sidecar, engine):
    fields = {"messages": MESSAGES, "model": "pocket", "stream": True, "seed": 5, "temperature": 0, "max_tokens": 30}
    options = {"n": 1, "top_p": 1.0}
    async with aiohttp.ClientSession() as session:
        direct = await (await session.post(f"{engine.url}/v1/chat/completions", json={**fields, **options})).read()
        through = await (await session.post(f"{sidecar.url}/v1/chat/completions", json=fields)).read()
    shown, mark = without_usage(direct.split(b"data: [DONE]")[0]), b"data: [DONE]\n\n"
    assert [_content(line) for line in through.splitlines()][: shown.count(b"\n")] == [_content(line) for line in shown.splitlines()]
    assert through.count(b"data: ") == direct.count(b"data: ")  # ours in the place of the engine's total
    assert through.endswith(mark)


async def test_a_thinking_stream_begins_with_a_comment_that_names_the_decision(sidecar):
    fields = {"messages": MESSAGES, "model": "auto", "stream": True, "rheostat": {"action": VOTES}}
    async with aiohttp.ClientSession() as session:
        response = await session.post(f"{sidecar.url}/v1/chat/completions", json=fields)
        lines = (await response.read()).decode().splitlines()
    first = json.loads(lines[0].removeprefix(": rheostat "))
    assert first["decision_id"] == response.headers["x-rheostat-decision"]
    assert lines[-2] == "data: [DONE]"


def test_deciding_spends_and_records_nothing(client, sidecar, engine):
    before = engine.generated
    told = client.post("/decide", body={"model": "auto:deep", "messages": MESSAGES}, cast_to=dict[str, object])
    assert told["decision"]["tier"] == "deep"
    assert told["decision"]["target_accuracy"] == 0.95
    assert engine.generated == before
    assert outcome(sidecar, told["decision"]["decision_id"]) == (None, None)


def test_feedback_is_idempotent_and_knows_its_decisions(client, sidecar, wait):
    decision_id = ask(client).rheostat["decision_id"]

    def give(**fields):
        return client.post("/feedback", body=fields, cast_to=dict[str, object])

    assert give(decision_id=decision_id, reward=0.25)["reward"] == 0.25
    assert give(decision_id=decision_id, label="correct", source="human")["reward"] == 1.0
    give(decision_id=decision_id, reward=0.75)

    def rewards():
        with OutcomeReader(sidecar.store) as store:
            found = {reward.source: reward.reward for reward in store.rewards(decision_id)}
        return found if len(found) == 2 else None

    assert wait(rewards) == {"feedback": 0.25, "human": 1.0}
    with pytest.raises(openai.NotFoundError) as caught:
        give(decision_id="d-unknown", reward=1)
    assert caught.value.body["param"] == "decision_id"


def test_a_correction_is_compared_with_the_answer(client):
    answer = ask(client)
    said = answer.choices[0].message.content.split()[-1].strip(".")
    for correction, reward in ((said, 1.0), ("no such answer", 0.0)):
        body = {"decision_id": answer.rheostat["decision_id"], "correction": correction, "source": f"c{reward}"}
        assert client.post("/feedback", body=body, cast_to=dict[str, object])["reward"] == reward


def test_a_reference_gives_the_outcome_its_reward(client, sidecar, wait):
    answer = ask(client, extra_body={"rheostat": {"reference": "no such answer", "action": VOTES}})
    decision_id = answer.rheostat["decision_id"]
    _, result = wait(lambda: outcome(sidecar, decision_id)[1] and outcome(sidecar, decision_id))
    assert (result.reward, result.reward_source) == (0.0, "exact")


def test_names_that_are_not_served_are_listed_with_those_that_are(client):
    for fields, param, status in [
        ({"model": "gpt-4"}, "model", 404),
        ({"model": "auto:enormous"}, "model", 404),
        ({"extra_body": {"rheostat": {"action": "pocket/nonsense@10"}}}, "rheostat.action", 400),
        ({"extra_body": {"rheostat": {"action": "other/cot@10"}}}, "rheostat.action", 400),
        ({"extra_body": {"rheostat": {"action": "pocket/cot@999999"}}}, "rheostat.action", 400),
        ({"extra_body": {"rheostat": {"verifier": "oracle"}}}, "rheostat.verifier", 400),
        ({"extra_body": {"rheostat": {"strict": True}}}, "rheostat", 422),
    ]:
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, **fields)
        assert (caught.value.body["param"], caught.value.status_code) == (param, status)


async def test_garbage_is_refused_by_name_without_an_upstream_call(sidecar, engine, large_engine):
    before = (engine.generated, large_engine.generated, _upstream_calls(sidecar))
    statuses = Counter()
    async with aiohttp.ClientSession() as session:
        for raw, param in garbage.ALL:
            response = await session.post(f"{sidecar.url}/v1/chat/completions", data=raw)
            error = (await response.json())["error"]
            statuses[response.status] += 1
            # What is found before anything is decoded is about the body.
            expected = "body" if error["code"] == "too_complex" else param or error["param"]
            assert error["param"] == expected
            assert error["message"]
            assert error["param"]
    assert set(statuses) == {400}
    assert sum(statuses.values()) >= 100
    assert before == (engine.generated, large_engine.generated, _upstream_calls(sidecar))
    assert sidecar.ready()["ready"]


async def test_a_huge_body_is_refused_whole_or_chunked(sidecar):
    async def pieces():
        for _ in range(20):
            yield b" " * 1_000_000

    async with aiohttp.ClientSession() as session:
        for data in (io.BytesIO(b" " * 20_000_000), pieces()):
            response = await session.post(f"{sidecar.url}/v1/chat/completions", data=data)
            assert response.status == 413
            assert (await response.json())["error"]["param"] == "body"
    assert sidecar.ready()["ready"]


async def test_a_compressed_body_is_refused(sidecar):
    url, headers = f"{sidecar.url}/v1/chat/completions", {"content-encoding": "gzip"}
    async with aiohttp.ClientSession() as session, session.post(url, data=b"x", headers=headers) as response:
        assert response.status == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/pause", 404),
        ("GET", "/v1/../metrics/x", 404),
    ],
)
async def test_other_paths_and_methods_are_openai_errors(sidecar, method, path, status):
    async with aiohttp.ClientSession() as session:
        response = await session.request(method, sidecar.url + path)
        assert response.status == status
        assert (await response.json())["error"]["message"]


def test_a_text_of_a_hundred_thousand_characters_is_served(client):
    answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "x y " * 25_000}])
    assert answer.choices[0].message.content


def test_metrics_tell_what_was_booked(client, sidecar):
    ask(client)
    text = get(f"{sidecar.url}/metrics").decode()
    assert 'rheostat_decisions_total{action="pocket/cot@256",tier="balanced"}' in text
    assert "rheostat_store_healthy 1.0" in text
    assert 'rheostat_bundle_info{version="none"} 1.0' in text


def _content(line):
    """The id and what was found in the prompt cache differ between two calls; everything else is the same bytes."""
    return re.sub(rb'"cached_tokens": \d+|"chatcmpl-[^"]*"', b"", line)


def _upstream_calls(sidecar):
    lines = get(f"{sidecar.url}/metrics").decode().splitlines()
    return next(line for line in lines if line.startswith("rheostat_upstream_calls_total"))
