from __future__ import annotations

import pytest

from rheostat.data.schema import Query
from rheostat.data.verifiers import verifier
from rheostat.policies.base import Candidate
from rheostat.policies.scorers.referenced import Referenced

CANDIDATE = Candidate(index=0, model="m", text='Here: ```json\n{"a": 1}\n```', answer="1", tokens=5)


@pytest.mark.parametrize(
    ("name", "reference", "score"),
    [("exact", "1", 1.0), ("exact", "2", 0.0), ("exact", None, None), ("json_schema", '{"required": ["a"]}', 1.0)],
)
async def test_a_verifier_scores_the_answer_or_the_reply_as_it_needs(booked, name: str, reference: str | None, score: float | None) -> None:
    scorer = Referenced(verifier(name))

    assert await scorer.score(Query.of_text("?", reference=reference, kind="number"), CANDIDATE, booked) == score
    assert scorer.name == name
    assert booked.attempts == []
    assert scorer.reads_reply == (name == "json_schema")
