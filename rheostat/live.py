"""Asking a running sidecar with the official client, and scoring what it answers. The demo and the tests use it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from rheostat.data.answers import extract
from rheostat.data.schema import Query
from rheostat.data.verifiers import grade, verifier_of


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answered query: what it got, what it cost, and how long the client waited."""

    query_id: str
    decision_id: str
    action: str
    bundle: str
    correct: bool
    p_correct: float | None
    tokens: int
    calls: int
    seconds: float


async def ask_all(
    url: str,
    tasks: Sequence[Query],
    *,
    target_accuracy: float,
    concurrency: int = 8,
    on_reply: Callable[[Reply], None] | None = None,
) -> list[Reply]:
    """Ask every task at a target accuracy, score the answers against the references, and feed the rewards back.

    Args:
        url: the sidecar's root.
        tasks: queries with reference answers.
        target_accuracy: in (0, 1].
        concurrency: requests in flight.
        on_reply: called with each reply as it comes.

    Returns:
        Replies in the order of the tasks.
    """
    from openai import AsyncOpenAI

    gate = asyncio.Semaphore(concurrency)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=120, max_retries=0) as client:

        async def one(task: Query) -> Reply:
            async with gate:
                reply = await _ask(client, task, target_accuracy)
            if on_reply is not None:
                on_reply(reply)
            return reply

        return await asyncio.gather(*map(one, tasks))


async def _ask(client: Any, task: Query, target_accuracy: float) -> Reply:
    began = time.perf_counter()
    answer = await client.chat.completions.create(
        model="auto", messages=list(task.messages), extra_body={"rheostat": {"target_accuracy": target_accuracy}}
    )
    seconds = time.perf_counter() - began
    block = answer.model_extra["rheostat"]
    reward = _reward(task, answer.choices[0].message.content or "")
    feedback = {"decision_id": block["decision_id"], "reward": reward}
    await client.post("/feedback", cast_to=object, body=feedback)
    return Reply(
        query_id=task.query_id, decision_id=block["decision_id"], action=block["action"], bundle=block["bundle"],
        correct=reward == 1.0, p_correct=block["p_correct"], tokens=answer.usage.completion_tokens,
        calls=block["ledger"]["calls"], seconds=seconds,
    )  # fmt: skip


def _reward(task: Query, text: str) -> float:
    kind = task.kind or "text"
    if task.reference is None:
        return 0.0
    return grade(verifier_of(task.dataset), task, reply=text, answer=extract(text, kind)) or 0.0
