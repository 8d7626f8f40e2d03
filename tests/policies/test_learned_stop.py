from __future__ import annotations

import numpy as np
import pytest

from rheostat.data.errors import ActionError
from rheostat.policies.base import Candidate, Evidence
from rheostat.policies.learned_stop import PriorRule, informed
from rheostat.policies.stopping import Fixed, Lead, Learned, parse_rule


class Once:
    """Stops after a number of samples; a prior above 1 makes it stop at once."""

    n_prior = 1

    def advantage(self, features: np.ndarray, drawn: int) -> np.ndarray:
        return np.where((features[:, -1] > 1) | (drawn >= 3), 1.0, -1.0)


def evidence(*answers: str | None) -> Evidence:
    found = tuple(Candidate(index=at, model="", text="", answer=answer, tokens=5) for at, answer in enumerate(answers))
    return Evidence(candidates=found, chosen=0, why="", planned=8)


def test_a_learned_rule_nobody_informed_stops_as_lead_two():
    rule = parse_rule("learned")
    for answers in (("a",), ("a", "a"), ("a", "b", "a"), ("a", "b", "a", "a")):
        assert bool(rule(evidence(*answers))) == bool(Lead(2)(evidence(*answers)))


def test_its_price_is_spelled_and_bounded():
    assert parse_rule("learned(0.002)") == Learned(0.002)
    assert parse_rule(str(Learned(0.5))) == Learned(0.5)
    with pytest.raises(ActionError, match="price"):
        Learned(1.5)


def test_knowledge_replaces_every_learned_part_and_no_other():
    known = PriorRule(Once(), (0.0,))
    rule = informed(parse_rule("(learned|fixed(5))&tokens(10)"), known)
    assert rule(evidence("a", "a")) is None
    assert rule(evidence("a", "a", "a")) == "learned and tokens(10)"
    assert informed(Fixed(2), known) == Fixed(2)


def test_the_prior_of_the_query_decides_with_the_votes():
    assert PriorRule(Once(), (2.0,))(evidence("a")) == "learned"
    assert PriorRule(Once(), (0.0,))(evidence("a")) is None
    assert PriorRule(Once(), (0.0,))(evidence()) is None
