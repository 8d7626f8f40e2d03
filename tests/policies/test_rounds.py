import pytest

from rheostat.data.schema import Action
from rheostat.policies.fake import FakeBackend
from rheostat.policies.run import run_action
from rheostat.policies.simulated import Process
from tests.policies import make
from tests.policies.make_process import accuracy, solve

N = 60


def process(**skills):
    return Process(depth=2, branch=2, **skills)


async def right(spelling, skills, checker=None):
    return accuracy(await solve(spelling, skills, n=N, checker=checker), skills)


async def test_a_good_critic_makes_refining_pay_and_more_rounds_pay_more():
    skilled = process(mends=0.4)
    once, more = await right("m/refine(rounds=1)@999", skilled), await right("m/refine(rounds=4)@999", skilled)
    assert await right("m/cot@999", skilled) < once < more


async def test_a_critic_that_sees_nothing_changes_nothing():
    blind = process(notices=0.0)
    assert await right("m/refine(rounds=3)@999", blind) == await right("m/cot@999", blind)


async def test_a_critic_that_doubts_what_is_right_harms():
    doubter = process(notices=0.0, doubts=1.0, mends=0.1)
    assert await right("m/refine(rounds=1)@999", doubter) < await right("m/cot@999", doubter)


async def test_scores_keep_the_best_round_whatever_the_critic_says():
    doubter = process(notices=1.0, doubts=1.0, mends=0.1)
    assert await right("m/refine(rounds=2,by=prm)@999", doubter) >= await right("m/cot@999", doubter)


async def test_a_stronger_checker_corrects_a_weak_model():
    weak, strong = process(notices=0.0), process(mends=1.0)
    assert await right("m/verify(checker=n,rounds=2)@999", weak, strong) == 1.0
    assert await right("m/refine(rounds=2)@999", weak) < 0.6


async def test_an_approved_attempt_ends_the_rounds():
    (result,) = await solve("m/refine(rounds=5)@999", Process(depth=1, branch=1), n=1)
    assert (result.stop_reason, len(result.evidence.candidates)) == ("approved", 1)
    assert result.candidate.score == 1.0


async def test_critiques_are_booked_as_verifier_tokens():
    backend = FakeBackend()
    result = await run_action(Action.parse("m/refine(rounds=2)@999"), make.question(), {"m": backend}, kind="number", seed=1)
    kinds = [attempt.kind for attempt in result.attempts]
    assert kinds == ["completion", "verifier", "completion", "verifier", "completion"]
    assert result.ledger.verifier > 0
    assert result.ledger.generated == backend.generated_tokens


@pytest.mark.parametrize("fault", ["error", "break"])
async def test_a_round_that_fails_leaves_the_attempts_before_it(fault):
    backend = FakeBackend(faults=["ok", fault])
    result = await run_action(Action.parse("m/refine@999"), make.question(), {"m": backend}, kind="number", seed=1)
    assert (result.stop_reason, len(result.evidence.candidates)) == ("upstream_failed", 1)


async def test_composing_beats_its_parts():
    skilled = Process(depth=3, branch=2, mends=0.5, notices=0.9, doubts=0.1)
    composed = await right("m/compose(n=4,rounds=2)@999", skilled)
    assert composed > await right("m/best_of_n(n=4,by=self)@999", skilled)
    assert composed > await right("m/refine(rounds=2)@999", skilled)
