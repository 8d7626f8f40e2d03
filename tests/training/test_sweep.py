"""A sweep runs every action on every query once, whatever breaks, and books what the engines counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from rheostat.data.errors import ActionError
from rheostat.data.ledger import Price
from rheostat.data.schema import Action, Query
from rheostat.policies.base import Toolbox
from rheostat.policies.fake import FakeBackend, FakeModel
from rheostat.training.sweep import HOPELESS_AFTER, Course, sweep
from tests.policies.make import toolbox

TASKS = [Query.of_text(f"What is {n}+{n}?", query_id=f"q{n}", kind="number", reference=str(2 * n), dataset="sums") for n in range(6)]
MODEL = FakeModel({task.text: {str(task.reference): 0.6, "1": 0.4} for task in TASKS})
ALL = [
    "direct", "cot", "few_shot(k=2)", "self_consistency(k=4)", "weighted_vote(k=3,by=prm)", "best_of_n(n=3,by=verifier)",
    "refine(rounds=1)", "verify(checker=m)", "token_beam(width=2)", "beam(width=2,expand=2,depth=2,step_tokens=9)", "mcts(sims=3)",
    "cascade(stages=direct>cot)", "compose(n=2)",
]  # fmt: skip


def actions(*spellings: str) -> list[Action]:
    return [Action.parse(f"m/{spelling}@600") for spelling in spellings]


def course(*spellings: str, **fields) -> Course:
    return Course(actions=actions(*spellings), **{"tasks": TASKS, "toolbox": toolbox(), **fields})


async def run(tmp_path: Path, plan: Course, *backends: FakeBackend):
    servers = {"m": backends or (FakeBackend("m", model=MODEL),)}
    return await sweep(plan, servers, tmp_path / "sweep.db", concurrency=4, pauses_s=(0.0, 0.0))


async def test_every_strategy_is_run_and_all_its_tokens_are_the_engines_own(tmp_path: Path) -> None:
    backend = FakeBackend("m", model=MODEL)
    swept = await run(tmp_path, course(*ALL), backend)

    assert swept.failures == ()
    assert [(row.query_id, row.action) for row in swept.rows] == [(t.query_id, str(a)) for t in TASKS for a in actions(*ALL)]
    assert swept.ledger.generated == sum(row.ledger.generated for row in swept.rows) == backend.generated_tokens > 0
    right = [row.correct for row in swept.rows if "by=verifier" in row.action]
    assert sum(right) >= sum(row.correct for row in swept.rows if row.action == "m/cot@600")


async def test_a_call_is_paid_at_the_price_of_the_model_it_went_to(tmp_path: Path) -> None:
    servers = {name: (FakeBackend(name, model=MODEL),) for name in ("m", "dear")}
    prices = {"m": Price(usd_per_1m_output=1.0), "dear": Price(usd_per_1m_output=50.0)}
    plan = course("cot", "verify(checker=dear)", prices=prices)
    swept = await sweep(plan, servers, tmp_path / "sweep.db")
    spent = {name: server.generated_tokens for name, (server,) in servers.items()}

    assert sum(row.cost_usd for row in swept.rows) == pytest.approx(1e-6 * (spent["m"] + 50 * spent["dear"]))


async def test_what_is_stored_is_not_run_again(tmp_path: Path) -> None:
    first = await run(tmp_path, course("cot"))
    backend = FakeBackend("m", model=MODEL)
    again = await run(tmp_path, course("cot", "self_consistency(k=4)"), backend)

    assert (first.skipped, again.skipped) == (0, len(TASKS))
    assert len(again.rows) == 2 * len(TASKS)
    assert [row for row in again.rows if row.action == "m/cot@600"] == list(first.rows)
    assert backend.generated_tokens == again.ledger.generated


async def test_a_corrected_reference_is_another_run_and_the_one_before_is_not_told(tmp_path: Path) -> None:
    await run(tmp_path, course("cot"))
    corrected = [structs.replace(TASKS[0], reference="1"), *TASKS[1:]]
    again = await run(tmp_path, course("cot", tasks=corrected))

    assert (again.skipped, len(again.rows)) == (len(TASKS) - 1, len(TASKS))
    assert again.rows[0].correct == float(again.rows[0].answer == "1")


async def test_the_same_seed_gives_the_same_answers_and_another_seed_other_runs(tmp_path: Path) -> None:
    one, two = [(await run(tmp_path / str(i), course("mcts(sims=3)"))).rows for i in range(2)]
    assert [row.answer for row in one] == [row.answer for row in two]

    await run(tmp_path, course("cot"))
    assert (await run(tmp_path, course("cot", seed=9))).skipped == 0


@pytest.mark.parametrize("spelling", ["cot", "refine(rounds=1)"])
async def test_a_failure_for_now_is_tried_again_and_billed(tmp_path: Path, spelling: str) -> None:
    backend = FakeBackend("m", model=MODEL, faults=(*["ok"] * 4, "error", *["ok"] * 30))
    swept = await run(tmp_path, course(spelling), backend)

    assert swept.failures == ()
    assert len(swept.rows) == len(TASKS)
    assert {row.stop_reason for row in swept.rows} <= {"complete", "approved"}
    assert swept.ledger.generated == backend.generated_tokens


async def test_a_dead_engine_ends_the_sweep_and_the_next_one_makes_up_for_it(tmp_path: Path) -> None:
    dead = FakeBackend("m", model=MODEL, faults=("error",))
    swept = await run(tmp_path, course("cot", "direct", "self_consistency(k=2)", "mcts(sims=2)", "refine(rounds=1)"), dead)

    assert len(swept.failures) == 5 * len(TASKS)
    assert len(dead.requests) < HOPELESS_AFTER + 5 * len(TASKS)
    assert (await run(tmp_path, course("cot"))).failures == ()


async def test_replicas_share_the_work(tmp_path: Path) -> None:
    replicas = FakeBackend("a", model=MODEL, latency_s=0.001), FakeBackend("b", model=MODEL, latency_s=0.001)
    await run(tmp_path, course("cot"), *replicas)

    assert all(replica.requests for replica in replicas)


async def test_an_action_that_cannot_be_run_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    backend = FakeBackend("m", model=MODEL)
    with pytest.raises(ActionError, match="the scorer 'prm'"):
        await run(tmp_path, course("cot", "best_of_n(n=2,by=prm)", toolbox=Toolbox()), backend)
    assert backend.generated_tokens == 0
