from __future__ import annotations

import asyncio

import pytest

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt
from rheostat.policies.base import Candidate, Completion, Generation
from rheostat.policies.scorers.judge import Judge, PairwiseJudge
from rheostat.policies.scoring import Scores
from tests.policies import make


class Says:
    """A call that answers with what `reply` makes of the prompt."""

    def __init__(self, reply) -> None:
        self.reply = reply
        self.asked: list[tuple[object, str]] = []

    async def __call__(self, request, kind="completion") -> Generation:
        self.asked.append((request, kind))
        await asyncio.sleep(0)
        text = self.reply(request.messages[0]["content"]) if callable(self.reply) else self.reply
        if isinstance(text, Exception):
            raise text
        attempt = Attempt(model=request.model, kind=kind, status="ok", ledger=Ledger(calls=1, verifier=3), latency_s=0.0)
        return Generation(completions=(Completion(index=0, text=text, completion_tokens=3),), attempt=attempt)

    def book(self, attempt: Attempt) -> None:
        raise AssertionError("a judge's calls are booked by the call itself")


def candidate(answer: str, index: int = 0) -> Candidate:
    return Candidate(index=index, model="m", text=f"The answer is {answer}.", answer=answer, tokens=5)


def prefers(*order: str):
    """Whichever of the two answers comes first in `order`."""

    def reply(prompt: str) -> str:
        first, second = prompt.split("Answer B:")
        ranks = [next(at for at, answer in enumerate(order) if f"is {answer}." in part) for part in (first, second)]
        return '{"better": "A"}' if ranks[0] < ranks[1] else '{"better": "B"}'

    return reply


@pytest.mark.parametrize(("reply", "score"), [('{"correct": true}', 1.0), (' {"correct":false} ', 0.0)])
async def test_a_verdict_is_a_score(reply: str, score: float) -> None:
    call = Says(reply)

    assert await Judge("wise").score(make.question(), candidate("7"), call) == score
    ((request, kind),) = call.asked
    assert kind == "verifier"
    assert request.model == "wise"
    assert request.extra["response_format"]["json_schema"]["schema"]["properties"] == {"correct": {"type": "boolean"}}


@pytest.mark.parametrize(
    "reply", ["", "yes", "{}", '{"correct": "true"}', '{"correct": 1}', '{"correct": true, "p": 1}', "[true]", "\ud800"]
)
async def test_a_reply_that_does_not_fit_is_an_abstention(reply: str) -> None:
    assert await Judge("wise").score(make.question(), candidate("7"), Says(reply)) is None


async def test_a_judge_that_fails_is_an_error_for_the_caller_to_handle() -> None:
    with pytest.raises(UpstreamError):
        await Judge("wise").score(make.question(), candidate("7"), Says(UpstreamError("gone", backend="wise")))


async def test_the_better_answer_wins_in_both_places() -> None:
    judge, call = PairwiseJudge("wise"), Says(prefers("7", "8"))

    assert await judge.compare(make.question(), candidate("7"), candidate("8"), call) == 1.0
    assert await judge.compare(make.question(), candidate("8"), candidate("7"), call) == 0.0
    assert len(call.asked) == 4


@pytest.mark.parametrize("reply", ['{"better": "A"}', '{"better": "B"}', '{"better": "tie"}'])
async def test_a_verdict_that_goes_by_the_place_is_a_tie(reply: str) -> None:
    assert await PairwiseJudge("wise").compare(make.question(), candidate("7"), candidate("8"), Says(reply)) == 0.5


@pytest.mark.parametrize("reply", ["A", '{"better": "C"}'])
async def test_a_comparison_that_does_not_fit_is_an_abstention(reply: str) -> None:
    assert await PairwiseJudge("wise").compare(make.question(), candidate("7"), candidate("8"), Says(reply)) is None


async def test_a_comparison_that_fails_is_an_error_once_the_swapped_one_is_over() -> None:
    over = []

    class OneFails(Says):
        async def __call__(self, request, kind="completion") -> Generation:
            if self.asked:
                await asyncio.sleep(0)
                over.append(await super().__call__(request, kind))
                return over[0]
            self.asked.append((request, kind))
            raise UpstreamError("gone", backend="wise")

    with pytest.raises(UpstreamError, match="gone"):
        await PairwiseJudge("wise").compare(make.question(), candidate("7"), candidate("8"), OneFails('{"better": "A"}'))
    assert len(over) == 1


async def test_a_group_is_ranked_by_its_comparisons_and_nobody_is_perfect() -> None:
    scores = await PairwiseJudge("wise").score_all(
        make.question(), [candidate("9"), candidate("7"), candidate("8")], Says(prefers("7", "8", "9"))
    )

    assert scores[1] > scores[2] > scores[0]
    assert all(0 < score < 1 for score in scores)


async def test_identical_answers_are_one_player() -> None:
    call = Says(prefers("7", "8"))
    scores = await PairwiseJudge("wise").score_all(make.question(), [candidate("8"), candidate("7", 1), candidate("8", 2)], call)

    assert scores[0] == scores[2] < scores[1]
    assert len(call.asked) == 2


async def test_one_that_cannot_be_compared_is_an_abstention() -> None:
    judge = PairwiseJudge("wise")

    assert await judge.score_all(make.question(), [candidate("7")], Says("")) == (None,)
    assert await judge.score(make.question(), candidate("7"), Says("")) is None
    failing = Says(UpstreamError("gone", backend="wise"))
    assert await judge.score_all(make.question(), [candidate("7"), candidate("8")], failing) == (None, None)


async def test_over_all_waves_of_a_query_no_pair_is_asked_about_twice() -> None:
    call = Says(prefers("7", "8", "9"))
    scores = Scores(make.question(), make.context(call=call, toolbox=make.toolbox(pairwise=PairwiseJudge("wise"))), "pairwise")
    drawn = [candidate(answer, at) for at, answer in enumerate("9879")]
    for n in range(1, 5):
        scored = await scores.given(drawn[:n])
    assert len(call.asked) == len({request.messages[0]["content"] for request, _ in call.asked}) == 6
    again = await PairwiseJudge("wise").score_all(make.question(), drawn, call)
    assert tuple(each.score for each in scored) == again


async def test_a_comparison_that_failed_is_made_again_after_the_next_wave() -> None:
    call = Says(UpstreamError("gone", backend="wise"))
    judge = PairwiseJudge("wise").for_query()
    assert await judge.score_all(make.question(), [candidate("7"), candidate("8")], call) == (None, None)
    call.reply = prefers("7", "8")
    better, worse = await judge.score_all(make.question(), [candidate("7"), candidate("8")], call)
    assert better > worse
