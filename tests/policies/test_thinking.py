import pytest

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import Action, Sampling
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.run import run_action
from rheostat.policies.thinking import before_answer
from tests.growth import growth
from tests.policies import make

CHATTY = FakeModel(default={"7": 1.0}, tokens=(60, 60))
BRIEF = FakeModel(default={"7": 1.0}, tokens=(5, 5))


async def run(spelling, backend, **sampling):
    query = make.question(sampling=Sampling(**sampling))
    return await run_action(Action.parse(spelling), query, {"m": backend}, kind="number", seed=1)


async def test_an_engine_with_a_budget_for_thinking_is_given_one_and_asked_once():
    backend = FakeBackend(thinks=True)
    result = await run("m/cot(think=30)@200", backend)
    assert [(request.thinking_tokens, request.max_tokens) for request in backend.requests] == [(30, 78)]
    assert result.evidence.why == "native thinking"


async def test_elsewhere_the_chain_is_cut_and_an_answer_forced():
    backend = FakeBackend(model=CHATTY)
    result = await run("m/cot(think=30)@200", backend)
    first, second = backend.requests
    assert (first.max_tokens, first.prefill) == (30, "")
    assert second.prefill.endswith("\nThe answer is")
    assert result.text.startswith(second.prefill)
    assert result.candidate.tokens == result.ledger.generated <= 30 + 48


async def test_a_chain_that_ends_early_is_its_own_answer():
    backend = FakeBackend(model=BRIEF)
    result = await run("m/cot(think=30)@200", backend)
    assert (len(backend.requests), result.answer, result.evidence.why) == (1, "7", "the whole chain")


async def test_waits_send_it_back_to_thinking_without_its_answer():
    backend = FakeBackend(model=BRIEF)
    result = await run("m/cot(think=30,waits=2)@200", backend)
    assert [request.prefill.count("Wait,") for request in backend.requests] == [0, 1, 2]
    assert "answer" not in backend.requests[1].prefill
    assert [request.max_tokens for request in backend.requests] == [30, 25, 20]
    assert result.answer == "7"


async def test_the_clients_limit_holds_for_the_whole_reply():
    result = await run("m/cot(think=90,waits=3)@900", FakeBackend(model=CHATTY), max_tokens=40)
    assert result.ledger.generated <= 40


async def test_a_failure_that_is_no_refusal_is_not_taken_for_one():
    with pytest.raises(UpstreamError, match="out of order"):
        await run("m/cot(think=30)@200", FakeBackend(faults=["error"], thinks=True))


@pytest.mark.parametrize(("style", "words"), [("short", "few words"), ("long", "check each one"), ("plain", "step by step.")])
async def test_styles_are_ways_of_asking_in_one_call(style, words):
    backend = FakeBackend()
    await run(f"m/cot(style={style})@200", backend)
    (request,) = backend.requests
    assert words in request.messages[-1]["content"]


async def test_the_effort_is_handed_on_unless_the_client_named_one():
    backend = FakeBackend()
    await run("m/cot(effort=low)@200", backend)
    await run("m/cot(effort=low)@200", backend, extra={"reasoning_effort": "high"})
    assert [request.extra["reasoning_effort"] for request in backend.requests] == ["low", "high"]


@pytest.mark.parametrize("piece", ["\n", " ", "so ", "the ", "so,\n", "answer", "answer: "])
def test_a_chain_that_repeats_itself_is_looked_through_in_linear_time(piece):
    assert growth(lambda n: before_answer("x" + piece * n + "x"), 2_000) < 9


def test_only_the_answer_in_the_end_is_taken_off_a_chain():
    steps = "First, I need the answer: carefully.\nStep 1: 3+4=7.\n"
    assert before_answer(f"{steps}So the final answer is 7. Done.") == steps
    assert before_answer("No word of it.") == "No word of it."
