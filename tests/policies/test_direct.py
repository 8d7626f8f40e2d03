import pytest

from rheostat.data.schema import Action, Sampling
from rheostat.policies.direct import Cot, Direct
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.run import run_action
from tests.policies import make


def test_one_greedy_request_of_what_is_left():
    request = Direct().request(make.question("2+2?"), make.context(left=64))
    assert (request.n, request.max_tokens, request.temperature) == (1, 64, 0.0)
    assert request.messages[-1]["content"] == "2+2? Answer only."


def test_cot_asks_for_steps():
    assert Cot().request(make.question("2+2?"), make.context()).messages[-1]["content"] == "2+2? Think step by step."


def test_the_clients_limit_is_kept():
    assert Cot().request(make.question(sampling=Sampling(max_tokens=5)), make.context(left=64)).max_tokens == 5


@pytest.mark.parametrize("spelling", ["m/direct@64", "m/cot@64"])
async def test_the_only_sample_is_the_answer(spelling):
    backend = FakeBackend(model=FakeModel(default={"7": 1.0}))
    result = await run_action(Action.parse(spelling), make.question(), {"m": backend}, kind="number", seed=1)
    assert (result.answer, result.stop_reason, result.status, len(result.attempts)) == ("7", "complete", "ok", 1)
    assert result.ledger.generated == backend.generated_tokens
