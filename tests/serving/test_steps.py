"""Decisions carried out in steps, with actions that only pretend to run."""

from __future__ import annotations

import pytest

from rheostat.data.errors import BudgetError, UpstreamError
from rheostat.data.ledger import Ledger, Price
from rheostat.data.schema import Action, Attempt, Decision, Query
from rheostat.policies.base import Candidate, Evidence, Meter
from rheostat.policies.learned_stop import PriorRule
from rheostat.policies.run import Result
from rheostat.policies.stopping import AnyOf
from rheostat.router.courses import Course
from rheostat.router.guidance import Guidance
from rheostat.router.ruling import SEQUENTIAL
from rheostat.router.stopping import StopModel, StopPolicy
from rheostat.serving.job import Job
from rheostat.serving.steps import Limits, Share, carry_out, known_rule
from tests.router.test_courses import expected, plan
from tests.router.test_stopping import always

# The plan runs positions 1 and 3.
ACTIONS = [Action.parse(spelling) for spelling in ("m/direct@9", "m/cot@10", "m/direct@8", "big/cot@100")]
PRICES = {"m": Price(usd_per_1m_output=1.0), "big": Price(usd_per_1m_output=5.0)}
NO_LIMITS = Limits()


def job(action: Action = ACTIONS[1], rule: str = SEQUENTIAL, known: Guidance | None = None) -> Job:
    decision = Decision(decision_id="d", query_id="q", created_s=0.0, action=str(action), propensity=1.0, rule=rule)
    made = Job(decision, Query.of_text("1 + 1?"), PRICES)
    made.guidance = known
    return made


def guidance(multiplier: float = 10.0, **stops: StopModel) -> Guidance:
    return Guidance(ACTIONS, expected().p_correct, stops, Course(plan(), expected(), multiplier=multiplier))


class Engine:
    """Answers with what it was told to; an error is raised after its tokens were booked."""

    def __init__(self, **answers: str | Exception | None) -> None:
        self.answers = answers
        self.ran: list[str] = []
        self.deadlines: list[float | None] = []

    async def __call__(self, action: Action, *, meter: Meter, rule, deadline_s: float | None) -> Result:
        self.ran.append(str(action))
        self.deadlines.append(deadline_s)
        attempt = Attempt(model=action.model, kind="completion", status="ok", ledger=Ledger(calls=1, completion=7), latency_s=0.1)
        meter.reserve(7)
        meter.book(attempt)
        meter.release(7)
        found = self.answers[action.model]
        if isinstance(found, Exception):
            raise found
        one = Candidate(index=0, model=action.model, text=f"so {found}", answer=found, tokens=7)
        return Result(
            text=one.text,
            answer=found,
            candidate=one,
            evidence=Evidence(candidates=(one,), chosen=0, why="", planned=1),
            ledger=meter.ledger,
            attempts=(attempt,),
            stop_reason="complete",
            status="ok",
            latency_s=0.1,
        )


async def test_both_actions_run_and_the_path_tells_what_each_said():
    work, engine = job(known=guidance()), Engine(m="2", big="2")
    result = await carry_out(work, NO_LIMITS, engine)
    assert engine.ran == ["m/cot@10", "big/cot@100"]
    assert [(step.action, step.tokens, step.answer) for step in work.path] == [("m/cot@10", 7, "2"), ("big/cot@100", 7, "2")]
    assert work.path[0].p_correct < work.path[1].p_correct
    assert result.answer == "2"
    assert work.ledger.completion == 14


async def test_each_call_is_paid_at_its_own_models_price():
    work = job(known=guidance())
    await carry_out(work, NO_LIMITS, Engine(m="2", big="2"))
    assert work.cost_usd == pytest.approx(7e-6 * (1 + 5))


async def test_it_stops_where_going_on_is_not_worth_it():
    work, engine = job(known=guidance(multiplier=0.5)), Engine(m="2", big="2")
    await carry_out(work, NO_LIMITS, engine)
    assert engine.ran == ["m/cot@10"]


@pytest.mark.parametrize("limits", [Limits(tokens=60), Limits(cost_usd=3.0)])
async def test_limits_hold_for_all_steps_together(limits):
    work, engine = job(known=guidance()), Engine(m="2", big="2")
    await carry_out(work, limits, engine)
    assert engine.ran == ["m/cot@10"]
    if limits.tokens is not None:
        assert work.meter.cap_tokens == limits.tokens


async def test_later_steps_have_what_is_left_of_the_deadline():
    engine = Engine(m="2", big="2")
    await carry_out(job(known=guidance()), Limits(deadline_s=100.0), engine)
    first, second = engine.deadlines
    assert second < first <= 100.0


async def test_the_failure_of_a_later_step_costs_its_tokens_and_not_the_answer():
    work, engine = job(known=guidance()), Engine(m="2", big=UpstreamError("gone", backend="big"))
    result = await carry_out(work, NO_LIMITS, engine)
    assert result.answer == "2"
    assert work.path[1].failed
    assert work.ledger.completion == 14
    assert work.action == ACTIONS[1]


@pytest.mark.parametrize("error", [UpstreamError("gone", backend="m"), BudgetError("no room")])
async def test_the_failure_of_the_first_step_is_the_requests(error):
    with pytest.raises(type(error)):
        await carry_out(job(known=guidance()), NO_LIMITS, Engine(m=error, big="2"))


async def test_answers_that_cannot_be_read_end_with_the_first_text():
    work = job(known=guidance())
    result = await carry_out(work, NO_LIMITS, Engine(m=None, big=None))
    assert result.answer is None
    assert result.text == "so None"


async def test_a_plain_decision_runs_its_action_once_on_the_jobs_own_meter():
    work, engine = job(ACTIONS[0], "average"), Engine(m="2")
    await carry_out(work, NO_LIMITS, engine)
    assert engine.ran == ["m/direct@9"]
    assert work.path == []


def test_a_share_never_spends_what_the_whole_does_not_have():
    whole = Meter(10)
    whole.reserve(4)
    share = Share(whole, 8)
    assert share.left_tokens == 6
    share.reserve(5)
    assert whole.left_tokens == 1
    with pytest.raises(BudgetError):
        share.reserve(2)
    share.release(5)
    assert (share.left_tokens, whole.left_tokens) == (6, 6)


def test_what_the_bundle_knows_replaces_the_learned_part_of_a_rule():
    vote = Action.parse("m/self_consistency(k=4,stop=learned|tokens(50))@64")
    model = StopModel(StopPolicy((always(2),), 2), (0, 1))
    known = Guidance(ACTIONS, expected().p_correct, {str(vote): model})
    rule = known_rule(vote, known)
    assert isinstance(rule, AnyOf)
    assert isinstance(rule.rules[0], PriorRule)
    assert known_rule(vote, None) is None
    assert known_rule(ACTIONS[0], known) is None
