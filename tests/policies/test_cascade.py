import pytest

from rheostat.data.errors import UpstreamError
from rheostat.data.schema import Action, Sampling
from rheostat.policies.cascade import split_stages
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.run import run_action
from tests.policies import make

SURE, TORN, MUTE = FakeModel(default={"7": 1.0}), FakeModel(default={"7": 0.5, "8": 0.5}), FakeModel(default={"": 1.0})


async def run(spelling, small, large=None, **options):
    backends = {"m": FakeBackend("m", model=small), "big": large or FakeBackend("big", model=SURE)}
    options = {"kind": "number", "seed": 1, "toolbox": make.toolbox()} | options
    result = await run_action(Action.parse(spelling), options.pop("query", make.question()), backends, **options)
    return result, backends


def test_stages_are_split_outside_parentheses_only():
    assert split_stages("a > b(x=c>d) >e") == ["a", "b(x=c>d)", "e"]


async def test_an_agreed_answer_stays_with_the_cheap_stage():
    result, backends = await run("m/cascade(stages=self_consistency(k=4)>big/cot)@999", SURE)
    assert (result.stop_reason, result.candidate.model) == ("confident", "m")
    assert backends["big"].requests == []


async def test_a_torn_vote_goes_on_to_the_dear_stage():
    result, _ = await run("m/cascade(stages=self_consistency(k=8)>big/cot,at=0.9)@1999", TORN)
    assert (result.stop_reason, result.candidate.model) == ("complete", "big")
    assert len(result.evidence.candidates) == 9
    assert result.evidence.chosen == 8


async def test_one_sample_is_as_sure_as_its_tokens_are_likely():
    low, _ = await run("m/cascade(stages=cot>big/cot,at=0.5)@999", SURE)
    high, _ = await run("m/cascade(stages=cot>big/cot,at=1.0)@999", SURE)
    assert (low.candidate.model, high.candidate.model) == ("m", "big")


async def test_a_stage_without_an_answer_leaves_the_earlier_one():
    result, _ = await run("m/cascade(stages=cot>big/cot,at=1.0)@999", SURE, FakeBackend("big", model=MUTE))
    assert (result.answer, result.candidate.model) == ("7", "m")


async def test_a_stages_own_rule_and_cap_hold():
    result, backends = await run("m/cascade(stages=direct@9>self_consistency(k=16,stop=lead(2)),at=1.0)@4000", SURE)
    assert backends["m"].requests[0].max_tokens == 9
    assert len(result.evidence.candidates) == 3


@pytest.mark.parametrize("own", [None, 40])
async def test_a_stage_draws_other_samples_than_those_before(own):
    query = make.question(sampling=Sampling(seed=own))
    result, backends = await run("m/cascade(stages=self_consistency(k=4)>self_consistency(k=8),at=1.0)@4000", TORN, query=query)
    first = 1 if own is None else own
    assert [(request.seed, request.n) for request in backends["m"].requests] == [(first, 4), (first + 4, 8)]
    assert [each.index for each in result.evidence.candidates] == list(range(12))


async def test_a_scorer_that_compares_is_shown_all_samples_of_a_stage_and_believed_on_the_chosen_one():
    class Shares:
        name, sees_all = "orm", True

        async def score_all(self, query, candidates, call):
            seen.append(len(candidates))
            return tuple(sum(other.answer == each.answer for other in candidates) / len(candidates) for each in candidates)

    seen = []
    result, _ = await run("m/cascade(stages=self_consistency(k=8)>big/cot,by=orm,at=0.99)@1999", TORN, toolbox=make.toolbox(orm=Shares()))
    assert (seen, result.candidate.model) == ([8], "big")


async def test_a_stage_whose_reply_is_judged_right_stands_also_where_no_answer_was_read_in_it():
    class Tests:
        name, reads_reply = "tests", True

        async def score(self, query, candidate, call):
            return float(candidate.model == "big")

    stages = "m/cascade(stages=cot>big/cot>cot,by=verifier)@999"
    result, _ = await run(stages, SURE, FakeBackend("big", model=MUTE), scorer=Tests())
    assert (result.stop_reason, result.candidate.model) == ("confident", "big")


async def test_a_stage_that_a_score_may_end_looks_at_it_early():
    class Sure:
        name = "orm"

        async def score(self, query, candidate, call):
            return 1.0

    stages = "m/cascade(stages=best_of_n(n=8,by=orm)>big/cot,at=0.1)@1999"
    _, backends = await run(stages, SURE, toolbox=make.toolbox(orm=Sure()))
    assert [request.n for request in backends["m"].requests] == [2]


async def test_a_stage_that_fails_is_passed_over():
    result, _ = await run("m/cascade(stages=big/cot>cot)@999", SURE, FakeBackend("big", faults=["error"]))
    assert result.candidate.model == "m"
    result, _ = await run("m/cascade(stages=cot>big/cot,at=1.0)@999", SURE, FakeBackend("big", faults=["error"]))
    assert (result.candidate.model, result.stop_reason) == ("m", "upstream_failed")
    with pytest.raises(UpstreamError):
        await run("m/cascade(stages=big/cot>big/cot)@999", SURE, FakeBackend("big", faults=["error"]))


async def test_a_scorer_may_judge_the_stages():
    class Doubt:
        name = "orm"

        async def score(self, query, candidate, call):
            return 0.1

    result, _ = await run("m/cascade(stages=self_consistency(k=4)>big/cot,by=orm)@999", SURE, toolbox=make.toolbox(orm=Doubt()))
    assert result.candidate.model == "big"
