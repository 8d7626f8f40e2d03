from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import Candidate
from rheostat.policies.scorers.likelihood import Likelihood
from rheostat.policies.scorers.pooling import TokenLogprob
from tests.policies import make


def candidate(text: str) -> Candidate:
    return Candidate(index=0, model="m", text=text, answer="7", tokens=5)


def unlikely_at(*letters: str):
    """A token a character; those letters have a chance of one in e^4, all others are certain."""

    def reply(path: str, body: dict) -> list:
        prompt = body["prompt"]
        logprobs = [None, *(-4.0 if letter in letters else 0.0 for letter in prompt[1:])]
        return [{"logprobs": {"text_offset": list(range(len(prompt))), "token_logprobs": logprobs}}]

    return reply


class Told:
    """A client that was told some tokens."""

    def __init__(self, tokens: list[TokenLogprob]) -> None:
        self.tokens = tokens

    async def token_logprobs(self, prompt: str, book) -> list[TokenLogprob]:
        return [TokenLogprob(len(prompt) - 1 - offset, logprob) for offset, logprob in self.tokens]


async def test_a_text_is_as_likely_as_its_tokens_are_on_average_and_the_question_does_not_count(serve, booked) -> None:
    server, client = await serve(unlikely_at("Z", "?"))

    assert await Likelihood(client).score(make.question("Z?"), candidate("aZbb"), booked) == pytest.approx(math.exp(-1))
    assert server.bodies[0]["prompt"].endswith("<assistant>aZbb")
    assert server.bodies[0]["max_tokens"] == 0


async def test_every_step_has_the_mean_up_to_its_end_and_the_last_that_of_the_whole(serve, booked) -> None:
    _, client = await serve(unlikely_at("Z"))
    reward, steps = Likelihood(client), ("ab; ", "Z=1. ", "c")
    found = await reward.steps(make.question(), steps, booked)

    assert found == pytest.approx((1.0, math.exp(-4 / 9), math.exp(-4 / 10)))
    assert await reward.score(make.question(), candidate("".join(steps)), booked) == pytest.approx(found[-1])


async def test_reading_is_booked_and_nothing_generated(serve, booked) -> None:
    _, client = await serve(unlikely_at())
    await Likelihood(client).score(make.question(), candidate("a"), booked)

    assert [(each.kind, each.ledger.prompt, each.ledger.generated) for each in booked.attempts] == [("verifier", 7, 0)]


async def test_an_empty_text_abstains_without_a_call_and_one_of_which_nothing_is_told_after_it(serve, booked) -> None:
    server, client = await serve(lambda *_: [{"logprobs": {"text_offset": [0], "token_logprobs": [None]}}])

    assert await Likelihood(client).score(make.question(), candidate(""), booked) is None
    assert server.bodies == []
    assert await Likelihood(client).score(make.question(), candidate("a"), booked) is None


async def test_an_engine_that_refuses_is_an_error(serve, booked) -> None:
    _, client = await serve(lambda *_: 400)
    with pytest.raises(UpstreamError):
        await Likelihood(client).score(make.question(), candidate("a"), booked)


@given(st.lists(st.floats(-1e4, 0), min_size=1, max_size=20))
async def test_a_likelihood_is_a_chance_however_unlikely_the_tokens(logprobs: list[float]) -> None:
    told = Told([TokenLogprob(at, logprob) for at, logprob in enumerate(logprobs)])
    score = await Likelihood(told).score(make.question(), candidate("x" * len(logprobs)), None)

    assert score is not None
    assert 0.0 <= score <= 1.0
