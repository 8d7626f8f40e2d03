from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import ConfigError, UpstreamError
from rheostat.policies.base import Candidate
from rheostat.policies.process import AGGREGATIONS
from rheostat.policies.scorers.rendering import POCKET_FORMAT
from rheostat.policies.scorers.rewards import OutcomeReward, PairReward, ProcessReward
from rheostat.policies.scoring import Scores
from tests.policies import make

MARK = POCKET_FORMAT.mark


def candidate(text: str, index: int = 0, answer: str = "7") -> Candidate:
    return Candidate(index=index, model="m", text=text, answer=answer, tokens=5)


def by_mark(path: str, body: dict) -> list:
    """One row behind every mark, later ones less sure."""
    return [{"data": [[0.1 * at, 1 - 0.1 * at] for at in range(body["input"].count(MARK))]}]


async def test_every_step_gets_the_score_behind_its_mark(serve, booked) -> None:
    server, client = await serve(by_mark)
    steps = ("7+8=15; ", "2+1=3. ", "The answer is 35.")

    assert await ProcessReward(client).steps(make.question(), steps, booked) == pytest.approx((1.0, 0.9, 0.8))
    assert server.bodies[0]["input"].endswith(f"<assistant>7+8=15{MARK}2+1=3{MARK}The answer is 35{MARK}")


async def test_steps_of_a_search_are_shown_as_those_of_a_whole_text(serve, booked) -> None:
    server, client = await serve(by_mark)
    reward = ProcessReward(client)
    await reward.steps(make.question(), ("7+8=15; ", "2+1=3. ", "The answer is 35."), booked)
    await reward.score(make.question(), candidate("7+8=15; 2+1=3. The answer is 35."), booked)

    assert server.bodies[0] == server.bodies[1]


@pytest.mark.parametrize(("aggregate", "expected"), [("last", 0.8), ("min", 0.8), ("prod", 0.72)])
async def test_a_score_is_the_aggregate_of_the_steps(serve, booked, aggregate: str, expected: float) -> None:
    _, client = await serve(by_mark)
    reward = ProcessReward(client, aggregate=aggregate)

    assert await reward.score(make.question(), candidate("a=1; b=2. The answer is 7."), booked) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1))
def test_aggregates_stay_between_zero_and_the_worst_or_last_step(scores: list[float]) -> None:
    assert AGGREGATIONS["prod"](scores) <= AGGREGATIONS["min"](scores) <= AGGREGATIONS["last"](scores)


async def test_an_unknown_aggregate_is_refused(serve) -> None:
    _, client = await serve(by_mark)
    with pytest.raises(ConfigError, match="last, min, prod"):
        ProcessReward(client, aggregate="mean")


@pytest.mark.parametrize("rows", [[[0.5, 0.5]], [[0.5, 0.5]] * 3, [[0.1, 0.9], [3.0, -2.0]], [[], []]])
async def test_scores_that_do_not_match_the_steps_are_an_abstention(serve, booked, rows) -> None:
    _, client = await serve(lambda *_: [{"data": rows}])

    assert await ProcessReward(client).steps(make.question(), ("a=1", "b=2"), booked) is None


async def test_a_text_without_steps_is_an_abstention_without_a_call(serve, booked) -> None:
    server, client = await serve(by_mark)

    assert await ProcessReward(client).score(make.question(), candidate(" \n "), booked) is None
    assert server.bodies == []


async def test_candidates_are_scored_together_and_one_that_fails_abstains_alone(serve, booked) -> None:
    _, client = await serve(lambda path, body: 400 if "bad" in body["input"] else by_mark(path, body))
    context = make.context(call=booked, toolbox=make.toolbox(prm=ProcessReward(client)))
    candidates = [candidate(text, answer=text) for text in ("good", "bad", "fine")]
    scored = await Scores(make.question(), context, "prm").given(candidates)

    assert tuple(each.score for each in scored) == (1.0, None, 1.0)
    assert sorted(attempt.status for attempt in booked.attempts) == ["failed", "ok", "ok"]


async def test_a_single_score_that_fails_is_an_error(serve, booked) -> None:
    _, client = await serve(lambda *_: 500)
    with pytest.raises(UpstreamError):
        await ProcessReward(client).score(make.question(), candidate("a"), booked)


@pytest.mark.parametrize(("probs", "label", "expected"), [([0.2, 0.8], -1, 0.8), ([0.2, 0.8], 0, 0.2), ([0.6], -1, 0.6), ([0.6], 3, None)])
async def test_an_outcome_reward_is_the_probability_of_its_class(serve, booked, probs, label: int, expected: float | None) -> None:
    server, client = await serve(lambda *_: [{"probs": probs}])

    assert await OutcomeReward(client, label=label).score(make.question(), candidate("because. 7"), booked) == expected
    assert server.bodies[0]["messages"][-1] == {"role": "assistant", "content": "because. 7"}


@pytest.mark.parametrize(("score", "expected"), [(0.4, 0.4), (7.5, None), (-0.1, None)])
async def test_a_pair_score_outside_the_unit_interval_is_an_abstention(serve, booked, score: float, expected: float | None) -> None:
    _, client = await serve(lambda *_: [{"score": score}])

    assert await PairReward(client).score(make.question(), candidate("7"), booked) == expected


async def test_what_is_no_number_is_no_probability(serve, booked) -> None:
    _, client = await serve(lambda *_: '{"data": [{"score": NaN}]}')
    with pytest.raises(UpstreamError):
        await PairReward(client).score(make.question(), candidate("7"), booked)
