"""What is checked before it goes out, and what follows a refusal."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rheostat.data.errors import ConfigError, UpstreamError
from rheostat.data.ledger import Ledger, Price
from rheostat.data.schema import Attempt, Constraints, Decision, Query, Sampling
from rheostat.policies.base import Candidate, Toolbox
from rheostat.policies.critique import CHECK_TOKENS
from rheostat.policies.fake import FakeBackend
from rheostat.serving.checker import Checker, measure_of
from rheostat.serving.job import Job
from rheostat.serving.metrics import Metrics
from rheostat.serving.runner import Runner
from rheostat.serving.settings import VerificationConfig
from rheostat.serving.terms import Terms
from rheostat.serving.verification import Verification
from rheostat.serving.wire import Chat

DIRECT, COT, VOTES = "m/direct@64", "m/cot@256", "m/self_consistency(k=4)@768"
ALTERNATIVES = {DIRECT: (0.3, 1e-6), COT: (0.75, 1e-5), VOTES: (0.9, 1e-4)}
QUESTION = "What is 2 plus 3?"


class Scripted:
    """A judge that says what it is told, in turn."""

    name = "judge"

    def __init__(self, *scores):
        self.scores = list(scores)
        self.seen = []

    async def score(self, query, candidate, call):
        self.seen.append(candidate.text)
        return self.scores.pop(0)


class Broken:
    name = "judge"

    async def score(self, query, candidate, call):
        raise UpstreamError("the judge is down", backend="judge")


def made(judge, backend=None, *, config=None):
    pools, config = {"m": backend or FakeBackend()}, config or VerificationConfig()
    toolbox = Toolbox(scorers={"judge": judge} if judge else {})
    metrics = Metrics()
    checker = Checker(pools, toolbox, config)
    return Verification(Runner(pools, toolbox), pools, checker, escalate=config.escalate, metrics=metrics), metrics


def decided(action=DIRECT, *, rule="per_query", alternatives=None):
    given_ones = ALTERNATIVES if alternatives is None else alternatives
    decision = Decision(
        decision_id="d", query_id="q", created_s=time.time(), action=action, propensity=1.0, rule=rule, alternatives=given_ones
    )
    query = Query.of_text(QUESTION)
    return Job(decision, query, {"m": Price(usd_per_1m_output=1.0)}), Chat(model="auto", query=query)


def terms(*, high_stakes=True, **limits):
    return Terms(defaults=Constraints(), own=Constraints(high_stakes=high_stakes, **limits))


async def run(judge, *, rule="per_query", alternatives=None, action=DIRECT, config=None, backend=None, **limits):
    verification, metrics = made(judge, backend, config=config)
    job, chat = decided(action, rule=rule, alternatives=alternatives)
    (answer,) = await verification.run(job, chat, terms(**limits))
    return job, answer, metrics


async def test_nothing_is_checked_where_the_stakes_are_not_high():
    judge = Scripted()
    job, _, metrics = await run(judge, high_stakes=False)
    assert (judge.seen, job.verified, job.path) == ([], None, [])
    assert b"rheostat_verifications_total{" not in metrics.text()


async def test_an_answer_that_passes_goes_out_as_it_is():
    judge = Scripted(0.5)
    job, answer, metrics = await run(judge)
    assert (judge.seen, job.verified, str(job.action)) == ([answer.text], True, DIRECT)
    assert job.outcome().verified is True
    assert b'rheostat_verifications_total{result="passed"} 1.0' in metrics.text()


async def test_a_refused_answer_is_followed_by_that_of_the_likeliest_action_left():
    job, answer, _ = await run(Scripted(0.1, 0.9))
    assert (job.verified, str(job.action), job.samples) == (True, VOTES, 4)
    assert [step.action for step in job.path] == [DIRECT, VOTES]
    assert job.chosen == answer
    assert sum(step.tokens for step in job.path) == job.ledger.generated


async def test_there_is_one_other_answer_and_no_third():
    job, _, metrics = await run(Scripted(0.0, 0.0))
    assert (job.verified, str(job.action), len(job.path)) == (False, VOTES, 2)
    assert b'rheostat_verifications_total{result="refused"} 1.0' in metrics.text()


async def test_of_two_refused_answers_the_better_one_goes_out_and_is_what_the_job_knows():
    judge = Scripted(0.4, 0.1)
    job, answer, _ = await run(judge)
    assert (job.verified, str(job.action), job.chosen) == (False, DIRECT, answer)
    assert answer.text == judge.seen[0]
    assert (job.answer, job.samples) == (answer.answer, 1)


async def test_an_answer_that_could_not_be_judged_goes_before_a_refused_one():
    job, _, _ = await run(Scripted(0.4, None))
    assert (job.verified, str(job.action)) == (None, VOTES)


@pytest.mark.parametrize(
    "options",
    [
        {"rule": "forced"},
        {"alternatives": {}},
        {"alternatives": {DIRECT: (0.3, 1e-6)}},
        {"alternatives": {"gone/cot@64": (0.9, 1e-6)}},
        {"config": VerificationConfig(escalate=False)},
        {"max_tokens_total": 128},
        {"max_cost_usd": 1e-5},
    ],
)
async def test_without_another_action_or_the_means_for_it_a_refused_answer_goes_out_marked(options):
    judge = Scripted(0.0)
    job, answer, _ = await run(judge, **options)
    assert (job.verified, str(job.action)) == (False, DIRECT)
    assert answer.text == judge.seen[0]


async def test_what_would_break_the_form_that_the_client_fixed_does_not_follow():
    verification, _ = made(Scripted())
    job, chat = decided(VOTES, alternatives={VOTES: (0.5, 1e-4), COT: (0.9, 1e-5)})
    query = replace(chat.query, sampling=Sampling(extra={"tools": [{"type": "function"}]}))
    assert verification.next_action(job.decision, chat) is not None
    assert verification.next_action(job.decision, replace(chat, query=query)) is None


async def test_another_action_that_fails_leaves_the_first_answer():
    backend = FakeBackend(faults=["ok", "refuse"])
    job, _, _ = await run(Scripted(0.0), backend=backend, alternatives={DIRECT: (0.3, 1e-6), COT: (0.75, 1e-5)})
    assert (job.verified, str(job.action)) == (False, DIRECT)
    assert [step.failed for step in job.path] == [False, True]


@pytest.mark.parametrize("judge", [Broken(), Scripted(None)])
async def test_a_judge_that_says_nothing_leaves_the_answer_unverified_but_not_refused(judge):
    job, _, metrics = await run(judge)
    assert (job.verified, str(job.action)) == (None, DIRECT)
    assert b'rheostat_verifications_total{result="unknown"} 1.0' in metrics.text()


@pytest.mark.parametrize(("scores", "verified"), [([1, 1, 1], True), ([1, None, 1], None), ([1, None, 0], False)])
async def test_of_several_answers_of_a_plain_call_all_have_to_pass(scores, verified):
    verification, _ = made(Scripted(*scores))
    job, chat = decided("m/passthrough@192", rule="passthrough")
    chat = Chat(model="m", query=chat.query, n=3)
    assert len(await verification.run(job, chat, terms())) == 3
    assert job.verified is verified


@given(st.sampled_from([DIRECT, COT, VOTES]), st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=2))
def test_no_more_is_generated_than_is_set_aside(action, scores):
    async def ask():
        verification, _ = made(Scripted(*scores))
        job, chat = decided(action)
        await verification.run(job, chat, terms())
        assert job.ledger.generated <= job.meter.cap_tokens
        assert job.ledger.generated <= int(action.partition("@")[2]) + sum(tokens for _, tokens in verification.caps(job.decision, chat))

    asyncio.run(ask())


def candidate(**fields):
    return Candidate(**{"index": 0, "model": "m", "text": "The answer is 5.", "answer": "5", "tokens": 5, **fields})


async def score(judge, shown, *, config=None, **limits):
    checker = Checker({"m": FakeBackend()}, Toolbox(scorers={"judge": judge} if judge else {}), config or VerificationConfig())
    job, _ = decided()
    (found,) = await checker.scores(job, terms(**limits), [shown])
    return found, checker.passes(found), job


async def test_an_answer_that_cannot_be_read_is_refused_and_a_call_of_a_tool_is_not_judged():
    assert (await score(Scripted(), candidate(answer=None)))[:2] == (0.0, False)
    assert (await score(Scripted(), candidate(answer="{}", tool_calls=({},))))[:2] == (None, None)


@pytest.mark.parametrize(
    ("asked", "text", "score"),
    [
        ({}, "A long reply. " * 40, 0.9),
        ({}, " \n", 0.0),
        ({"kind": "number"}, "No number at all.", 0.0),
        ({"sampling": Sampling(extra={"response_format": {"type": "json_object"}})}, "No JSON.", 0.0),
    ],
)
async def test_prose_is_judged_as_a_whole(asked, text, score):
    judge = Scripted(0.9)
    checker = Checker({"m": FakeBackend()}, Toolbox(scorers={"judge": judge}), VerificationConfig())
    job, _ = decided()
    job.query = replace(job.query, **{"kind": "text", **asked})
    shown = [candidate(answer="5"), candidate(index=1, answer=None, text=text)]
    assert await checker.scores(job, terms(), shown[1:], shown) == [score]
    assert judge.seen == ([text] if score else [])


async def test_a_model_may_check_itself_and_is_paid_for_it():
    found, _, job = await score(None, candidate())
    assert found is None  # the fake model finds no words for a verdict
    assert job.ledger.verifier > 0


async def test_without_tokens_for_a_check_nothing_is_said():
    found, passes, job = await score(None, candidate(), max_tokens_total=64)
    assert (found, passes, job.ledger.generated) == (None, None, 0)


async def test_answers_that_took_all_the_tokens_there_were_leave_room_for_the_check_of_each():
    checker = Checker({"m": FakeBackend()}, Toolbox(), VerificationConfig())
    job, _ = decided("m/passthrough@192", rule="passthrough")
    spent = Ledger(completion=192, calls=1)
    job.meter.book(Attempt(model="m", kind="completion", status="ok", ledger=spent, latency_s=0.0))
    await checker.scores(job, terms(), [candidate(index=at) for at in range(3)])
    assert [attempt.kind for attempt in job.meter.attempts[1:]] == ["verifier"] * 3


def test_a_check_is_set_aside_for_each_of_several_answers_and_no_other_answer_which_a_plain_call_never_has():
    verification, _ = made(Scripted())
    job, chat = decided("m/passthrough@192")
    assert verification.caps(job.decision, replace(chat, n=3)) == [("m", 3 * CHECK_TOKENS)]


async def test_after_the_deadline_nothing_is_said():
    assert (await score(None, candidate(), deadline_s=0.0))[:2] == (None, None)


@pytest.mark.parametrize(
    ("name", "scorers", "found"),
    [("", [], "self"), ("", ["orm"], "orm"), ("", ["orm", "judge"], "judge"), ("", ["pairwise"], "self"), ("orm", ["orm"], "orm")],
)
def test_who_checks_is_the_one_named_or_the_best_there_is(name, scorers, found):
    assert measure_of(name, Toolbox(scorers=dict.fromkeys(scorers))) == found


@pytest.mark.parametrize("name", ["pairwise", "oracle"])
def test_a_scorer_that_is_not_there_or_cannot_judge_alone_is_an_error_that_lists_the_others(name):
    with pytest.raises(ConfigError, match="known are judge, self"):
        measure_of(name, Toolbox(scorers={"judge": None, "pairwise": None}))


class Shares:
    """Compares: the score of an answer is its share of the votes."""

    name, sees_all = "orm", True

    async def score_all(self, query, candidates, call):
        return tuple(sum(other.answer == each.answer for other in candidates) / len(candidates) for each in candidates)


async def test_a_scorer_that_compares_is_shown_what_an_answer_was_chosen_from_and_says_nothing_of_a_lone_one():
    checker = Checker({"m": FakeBackend()}, Toolbox(scorers={"orm": Shares()}), VerificationConfig(by="orm"))
    job, _ = decided()
    drawn = [candidate(index=at, answer=answer) for at, answer in enumerate("5567")]
    assert await checker.scores(job, terms(), drawn[:1], drawn) == [0.5]
    assert await checker.scores(job, terms(), drawn) == [0.5, 0.5, 0.25, 0.25]
    assert await checker.scores(job, terms(), drawn[:1]) == [None]


async def test_the_samples_of_a_vote_are_shown_to_a_scorer_that_compares():
    verification, _ = made(None)
    shown = []

    class Told(Shares):
        async def score_all(self, query, candidates, call):
            shown.append(len(candidates))
            return tuple(0.9 for _ in candidates)

    verification._checker = Checker({"m": FakeBackend()}, Toolbox(scorers={"orm": Told()}), VerificationConfig(by="orm"))
    job, chat = decided(VOTES)
    await verification.run(job, chat, terms())
    assert (shown, job.verified) == ([4], True)


async def test_checks_that_are_cancelled_end_when_the_slowest_has_settled():
    settled = []

    class Slow:
        name = "judge"

        async def score(self, query, shown, call):
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(9 * shown.index):
                    await asyncio.sleep(0)
                settled.append(shown.index)

    checker = Checker({"m": FakeBackend()}, Toolbox(scorers={"judge": Slow()}), VerificationConfig())
    job, _ = decided()
    task = asyncio.create_task(checker.scores(job, terms(), [candidate(index=at) for at in range(2)]))
    for _ in range(9):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert settled == [0, 1]
