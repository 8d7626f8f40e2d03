import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import ActionError, UpstreamError
from rheostat.data.schema import Action, Sampling
from rheostat.policies.drawing import parse_waves, wave_sizes
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.policies.run import run_action
from tests.policies import make


async def run(spelling, backend=None, query=None, **options):
    options = {"kind": "number", "seed": 1} | options
    return await run_action(Action.parse(spelling), query or make.question(), {"m": backend or FakeBackend()}, **options)


class Exact:
    """Scores 1 for the reference, 0 otherwise, and counts how often it was asked."""

    name = "exact"

    def __init__(self, reference, error=None):
        self.reference = reference
        self.error = error
        self.asked = []

    async def score(self, query, candidate, call):
        self.asked.append(candidate.answer)
        if self.error is not None:
            raise self.error
        return float(candidate.answer == self.reference)


@given(st.integers(1, 256), st.lists(st.integers(1, 20), max_size=5))
def test_waves_sum_to_the_total_and_repeat_the_last_size(total, sizes):
    waves = list(wave_sizes(total, sizes))
    assert sum(waves) == total
    assert all(wave > 0 for wave in waves)
    for at, wave in enumerate(waves[:-1]):
        assert wave == sizes[min(at, len(sizes) - 1)]


def test_waves_are_read_from_their_spelling():
    assert parse_waves("2+2+4") == (2, 2, 4)
    assert parse_waves("") == ()


async def test_self_consistency_answers_what_most_samples_say():
    result = await run("m/self_consistency(k=32)@9999", FakeBackend(model=FakeModel(default={"7": 0.6, "8": 0.4})))
    assert result.answer == "7"
    assert result.evidence.why.endswith("of 32 votes")
    assert len(result.evidence.candidates) == 32


async def test_without_a_rule_all_samples_are_one_wave():
    backend = FakeBackend()
    await run("m/self_consistency(k=8)@9999", backend)
    assert [request.n for request in backend.requests] == [8]


async def test_waves_do_not_change_the_samples():
    whole, parts = FakeBackend(), FakeBackend()
    one = await run("m/self_consistency(k=8)@99999", whole)
    many = await run("m/self_consistency(k=8,waves=1+2+3)@99999", parts)
    assert [request.n for request in parts.requests] == [1, 2, 3, 2]
    assert [request.seed for request in parts.requests] == [1, 2, 4, 7]
    assert [c.text for c in many.evidence.candidates] == [c.text for c in one.evidence.candidates]


async def test_a_spelled_rule_stops_early_and_saves_the_rest():
    backend = FakeBackend(model=FakeModel(default={"7": 1.0}))
    result = await run("m/self_consistency(k=16,stop=beta(0.95))@9999", backend)
    assert result.stop_reason == "beta(0.95)"
    assert [request.n for request in backend.requests] == [2, 2]
    assert result.ledger.generated == backend.generated_tokens


async def test_greedy_samples_are_drawn_once():
    backend = FakeBackend()
    result = await run("m/self_consistency(k=8)@999", backend, make.question(sampling=Sampling(temperature=0.0)))
    assert ([request.n for request in backend.requests], result.stop_reason) == ([1], "complete")


async def test_a_cap_below_one_token_a_sample_draws_fewer_samples():
    backend = FakeBackend()
    result = await run("m/self_consistency(k=8)@3", backend)
    assert backend.generated_tokens == 3
    assert result.stop_reason == "budget"


async def test_samples_none_of_which_can_be_read_still_give_the_first_text():
    result = await run("m/self_consistency(k=4)@999", FakeBackend(faults=["empty"]))
    assert (result.answer, result.text, result.evidence.chosen) == (None, "", 0)


async def test_best_of_n_takes_the_likeliest_text_that_has_an_answer():
    result = await run("m/best_of_n(n=16)@99999", FakeBackend(model=FakeModel(default={"7": 0.5, "": 0.5})))
    answered = [c for c in result.evidence.candidates if c.answer is not None]
    assert result.candidate.mean_logprob == max(c.mean_logprob for c in answered)


async def test_best_of_n_by_verifier_stops_at_a_perfect_score():
    backend, scorer = FakeBackend(model=FakeModel(default={"7": 0.3, "8": 0.7})), Exact("7")
    result = await run("m/best_of_n(n=64,by=verifier)@99999", backend, scorer=scorer)
    assert (result.answer, result.stop_reason) == ("7", "perfect")
    assert len(result.evidence.candidates) < 64


async def test_identical_answers_are_scored_once():
    scorer = Exact("9")
    await run("m/best_of_n(n=32,by=verifier)@99999", FakeBackend(model=FakeModel(default={"7": 0.5, "8": 0.5})), scorer=scorer)
    assert sorted(scorer.asked) == ["7", "8"]


async def test_a_scorer_that_fails_abstains():
    scorer = Exact("7", UpstreamError("judge away", backend="judge"))
    result = await run("m/best_of_n(n=4,by=verifier)@999", scorer=scorer)
    assert {c.score for c in result.evidence.candidates} == {None}


async def test_by_verifier_without_a_scorer_says_so():
    with pytest.raises(ActionError, match="has no scorer"):
        await run("m/best_of_n(n=4,by=verifier)@999")


async def test_samples_that_came_before_a_break_are_used_in_their_place():
    result = await run("m/self_consistency(k=4,waves=2)@9999", FakeBackend(faults=["partial", "ok"]))
    assert [c.index for c in result.evidence.candidates] == [0, 2, 3]
    assert result.attempts[0].status == "failed"


async def test_a_last_wave_that_broke_says_so():
    result = await run("m/self_consistency(k=4)@9999", FakeBackend(faults=["partial"]))
    assert ([c.index for c in result.evidence.candidates], result.stop_reason) == ([0], "upstream_failed")
