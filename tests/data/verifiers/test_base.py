"""Grading by the verifier's own needs, and beside the event loop where that takes long."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rheostat.data.answers import extract
from rheostat.data.schema import Query
from rheostat.data.verifiers import VERIFIERS, grade, grade_aside

QUERY = Query.of_text("1 + 1?", kind="number", reference="2")


class Waiting:
    """Scores 1.0 where the event loop goes on while it is asked."""

    name, reads_reply, is_slow = "waiting", False, True

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def verify(self, question, answer, reference, kind):
        return float(self.let_go.wait(5.0))


async def test_a_slow_verifier_does_not_hold_up_the_loop() -> None:
    waiting = Waiting()
    asyncio.get_running_loop().call_soon(waiting.let_go.set)

    assert await grade_aside(waiting, QUERY, reply="2", answer="2") == 1.0


async def test_verifiers_that_ask_another_process_are_slow_and_the_others_are_not() -> None:
    assert {name for name, each in VERIFIERS.items() if each.is_slow} == {"regex", "latex", "json_schema", "python_tests"}


@pytest.mark.parametrize("name", ["exact", "regex"])
async def test_grading_aside_gives_the_same_score(name: str) -> None:
    for answer in ("2", "3", None):
        inline = grade(VERIFIERS[name], QUERY, reply=f"It is {answer}", answer=answer)
        assert inline == float(answer == "2")
        assert await grade_aside(VERIFIERS[name], QUERY, reply=f"It is {answer}", answer=answer) == inline


@pytest.mark.parametrize(("reply", "score"), [("Answer: apple\npear", 1.0), ("Answer: apple\nIt is red.", 0.0), ("apple\npear", 1.0)])
def test_the_lines_of_a_reference_show_how_much_of_a_reply_is_compared(reply: str, score: float) -> None:
    query = Query.of_text("Which fruits?", kind="text", reference="apple\npear")
    assert grade(VERIFIERS["exact"], query, reply=reply, answer=extract(reply, "text")) == score
