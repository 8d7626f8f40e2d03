"""Picks among chains: each way to pick finds the chain that it is about."""

from __future__ import annotations

import pytest

from benchmarks.process_reward import ONE_SAMPLE, VOTE, Scored, area, picks, voted
from rheostat.data.schema import Query
from rheostat.policies.base import Candidate

QUERY = Query.of_text("What is 3 + 4?", query_id="q", kind="number", reference="7", dataset="d")


def chains(*answers: str | None) -> list[Candidate]:
    return [Candidate(index=at, model="m", text="a chain", answer=answer, tokens=5) for at, answer in enumerate(answers)]


def test_every_way_to_pick_takes_its_own() -> None:
    scored = Scored(chains("7", "8", "8", None), [(0.9, 0.2), (0.3, 0.8), (), (0.1,)], [0.9, 0.5, 0.3, 1.0])
    found = picks(QUERY, scored)

    assert found[ONE_SAMPLE] == 0.25
    assert (found[VOTE], found["any of them"]) == (0.0, 1.0)
    assert (found["best by prm, last"], found["best by prm, min"], found["best by prm, prod"]) == (0.0, 0.0, 0.0)
    assert (found["best by likelihood"], found["votes weighted by likelihood"]) == (0.0, 1.0)


def test_a_vote_counts_weights_and_the_earlier_of_two_as_heavy_wins() -> None:
    assert voted(chains("7", "8", "8"), [1.0, 0.0, 0.0], [1.0, 0.4, 0.5]) == 1.0
    assert voted(chains("7", "8"), [1.0, 0.0], [0.5, 0.5]) == 1.0
    assert voted(chains(None), [0.0], [1.0]) == 0.0


def test_answers_without_a_score_are_left_out_of_the_area() -> None:
    found = [Scored(chains("7", "8", "7"), [(0.9,), (0.5,), ()], [0.1, 0.5, 0.6])]

    assert area([QUERY], found, lambda each: [scores[-1] if scores else None for scores in each.steps]) == 1.0
    assert area([QUERY], found, lambda each: each.likely) == pytest.approx(0.5)
