"""A model that reads: on the real engine a right chain is likelier than one with a slip, and reading generates nothing."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from rheostat.data.problems import Problem, problems
from rheostat.data.problems.dialogues import STEP_BY_STEP
from rheostat.data.schema import Action, Query
from rheostat.policies.backend import VllmBackend
from rheostat.policies.base import Candidate, GenerateRequest, Meter, Toolbox
from rheostat.policies.run import run_action
from rheostat.policies.scorers.likelihood import Likelihood
from rheostat.policies.scorers.pooling import PoolingClient
from tests.e2e.conftest import Stack
from tests.policies.scorers.conftest import Booked


def asked(problem: Problem) -> Query:
    return Query.of_text(problem.question, query_id="q", kind=problem.kind, reference=problem.answer, dataset="d")


async def test_a_right_chain_is_likelier_than_one_with_a_slip_and_reading_generates_nothing(stack: Stack) -> None:
    rng, booked = random.Random(0), Booked()
    some = list(itertools.islice(problems("heldout", 0), 40))
    async with PoolingClient("likely", stack.engines["pocket-large"], model="pocket-large") as client:
        reader = Likelihood(client)

        async def likely(problem: Problem, text: str) -> float:
            return await reader.score(asked(problem), Candidate(index=0, model="m", text=text, answer="7", tokens=1), booked) or 0.0

        right = [await likely(problem, problem.work().text) for problem in some]
        wrong = [await likely(problem, problem.work(slip=0, rng=rng).text) for problem in some]

    assert np.mean(np.array(right) > np.array(wrong)) > 0.8
    assert all(attempt.ledger.generated == 0 < attempt.ledger.prompt for attempt in booked.attempts)


async def test_the_score_of_an_answer_is_the_engines_own_of_what_it_wrote(stack: Stack) -> None:
    """What the writer said of its tokens while writing is what it says of them when it reads them."""
    problem = next(problems("heldout", 1))
    url = stack.engines["pocket-large"]
    async with VllmBackend("pocket-large", url) as backend, PoolingClient("likely", url, model="pocket-large") as client:
        request = GenerateRequest(
            model="pocket-large", messages=({"role": "user", "content": f"{problem.question} {STEP_BY_STEP}"},), max_tokens=96,
            temperature=0.0, logprobs=True,
        )  # fmt: skip
        written = (await backend.generate(request, Meter(96))).completions[0]
        candidate = Candidate(index=0, model="pocket-large", text=written.text, answer="7", tokens=1)
        read = await Likelihood(client).score(asked(problem), candidate, Booked())

    assert written.mean_logprob is not None
    assert read == pytest.approx(np.exp(written.mean_logprob), abs=0.02)  # the end of the sequence is written, not read


@pytest.mark.parametrize("shape", ["best_of_n(n=4,by=likely)@768", "beam(width=2,expand=2,by=likely,split=clause)@768"])
async def test_strategies_choose_by_it(stack: Stack, shape: str) -> None:
    url = stack.engines["pocket-large"]
    async with VllmBackend("pocket", stack.engines["pocket"]) as backend, PoolingClient("likely", url, model="pocket-large") as client:
        tools = Toolbox(scorers={"likely": Likelihood(client)})
        query = asked(next(problems("heldout", 2)))
        result = await run_action(
            Action.parse(f"pocket/{shape}"), query, {"pocket": backend}, kind=query.kind or "text", seed=1, toolbox=tools
        )

    assert result.answer is not None
    assert sum(attempt.ledger.generated for attempt in result.attempts if attempt.model == "pocket-large") == 0
