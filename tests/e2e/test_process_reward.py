"""The pocket process reward model on a real vLLM: a score at every mark, right answers above wrong ones, strategies that use it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from sklearn.metrics import roc_auc_score

from rheostat.data.answers import same
from rheostat.data.problems import problems
from rheostat.data.schema import Action, Query
from rheostat.policies.backend import VllmBackend
from rheostat.policies.base import Toolbox
from rheostat.policies.engine import Engines
from rheostat.policies.run import run_action
from rheostat.policies.scorers.pooling import PoolingClient
from rheostat.policies.scorers.rewards import ProcessReward
from tests.e2e.conftest import Stack
from tests.policies.scorers.conftest import Booked

STEPS = ("7+8+0=15", "2+4+1=7", "The answer is 75")


@pytest.fixture(scope="module")
def url(stack: Stack) -> Iterator[str]:
    engines = Engines(stack.state / "engines")
    yield engines.start("pocket-prm").url
    engines.stop("pocket-prm")


async def test_every_step_has_a_score_and_only_reading_is_booked(url: str) -> None:
    booked = Booked()
    async with PoolingClient("prm", url, model="pocket-prm") as client:
        scores = await ProcessReward(client).steps(Query.of_text("What is 27 + 48?"), STEPS, booked)

    assert scores is not None
    assert len(scores) == len(STEPS)
    assert all(0.0 <= score <= 1.0 for score in scores)
    (attempt,) = booked.attempts
    assert attempt.ledger.prompt > 0
    assert attempt.ledger.generated == 0


async def test_right_answers_of_a_model_score_above_wrong_ones(stack: Stack, url: str) -> None:
    labels, scores = [], []
    async with VllmBackend("pocket", stack.engines["pocket"]) as backend, PoolingClient("prm", url, model="pocket-prm") as client:
        for number, problem in enumerate(itertools.islice(problems("heldout", 5), 128)):
            query = Query.of_text(problem.question, query_id=str(number))
            action = Action.parse("pocket/self_consistency(k=1)@128")
            chain = (await run_action(action, query, {"pocket": backend}, kind=problem.kind, seed=number)).candidate
            score = await ProcessReward(client).score(query, chain, Booked())
            if score is not None:
                labels.append(chain.answer is not None and same(chain.answer, problem.answer, problem.kind))
                scores.append(score)

    assert len(scores) > 100
    assert roc_auc_score(labels, scores) > 0.75


@pytest.mark.parametrize(
    "shape", ["best_of_n(n=4,by=prm)@768", "beam(width=2,expand=2,by=prm,split=clause)@768", "refine(rounds=1,by=prm)@576"]
)
async def test_strategies_choose_by_its_scores(stack: Stack, url: str, shape: str) -> None:
    query = Query.of_text("What is 27 + 48?", query_id="q")
    async with VllmBackend("pocket", stack.engines["pocket"]) as backend, PoolingClient("prm", url, model="pocket-prm") as client:
        tools = Toolbox(scorers={"prm": ProcessReward(client)})
        result = await run_action(Action.parse(f"pocket/{shape}"), query, {"pocket": backend}, kind="number", seed=1, toolbox=tools)

    scores = [each.score for each in result.evidence.candidates if each.answer is not None]
    assert all(score is not None for score in scores)
    assert result.candidate.score == max(scores)
    assert sum(attempt.ledger.generated for attempt in result.attempts if attempt.model == "pocket-prm") == 0
