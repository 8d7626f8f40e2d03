from rheostat.data.schema import Action
from rheostat.policies.base import GenerateRequest
from rheostat.policies.fake import FakeBackend
from rheostat.policies.reply import Reply
from rheostat.policies.run import run_action
from tests.policies import make


async def test_the_engine_is_asked_for_one_greedy_search_and_the_first_beam_is_the_answer():
    backend = FakeBackend()
    result = await run_action(Action.parse("m/token_beam(width=3)@120"), make.question(), {"m": backend}, kind="number", seed=1)
    (request,) = backend.requests
    assert (request.n, request.max_tokens, request.beam_search, request.temperature, request.seed) == (3, 40, True, 0.0, None)
    assert (result.evidence.chosen, len(result.evidence.candidates)) == (0, 3)


def reply(done):
    found = Reply(GenerateRequest(model="m", messages=(), max_tokens=40, n=3, beam_search=True), "b")
    found.feed(b'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n')
    if done:
        found.feed(b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}\n\ndata: [DONE]\n\n')
    return found


def test_a_beam_search_is_billed_for_all_its_steps_and_not_for_its_texts():
    attempt = reply(done=True).attempt("ok", latency_s=0.0)
    assert (attempt.ledger.completion, attempt.estimated) == (1 + 3 * 39, False)


def test_one_that_was_cut_short_is_billed_at_its_most_and_marked():
    attempt = reply(done=False).attempt("cancelled", latency_s=0.0)
    assert (attempt.ledger.wasted, attempt.estimated) == (1 + 3 * 39, True)


def test_one_that_was_refused_costs_nothing():
    attempt = reply(done=False).attempt("failed", latency_s=0.0, refused=True)
    assert (attempt.ledger.generated, attempt.estimated) == (0, False)
