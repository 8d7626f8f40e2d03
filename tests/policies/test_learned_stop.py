from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from rheostat.data.errors import ActionError
from rheostat.policies.base import Candidate, Evidence
from rheostat.policies.learned_stop import NO_SCORE, PriorRule, informed, is_learned, vote_features
from rheostat.policies.stopping import Fixed, Lead, Learned, parse_rule


class Once:
    """Stops after a number of samples; a prior above 1 makes it stop at once."""

    n_prior = 1
    reads_logprobs = False
    reads_scores = False

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


class Likely(Once):
    """Stops where the leader is likely."""

    reads_logprobs = True

    def advantage(self, features: np.ndarray, drawn: int) -> np.ndarray:
        return np.where(features[:, 6] > -0.1, 1.0, -1.0)


def likely(*answers: tuple[str | None, float | None]) -> Evidence:
    plain = evidence(*(answer for answer, _ in answers))
    found = (replace(each, mean_logprob=logprob) for each, (_, logprob) in zip(plain.candidates, answers, strict=True))
    return replace(plain, candidates=tuple(found))


def test_log_probabilities_are_means_over_parsed_candidates_and_over_the_leader():
    found = likely(("a", -0.2), ("b", -1.0), (None, -9.0), ("a", None), ("a", float("nan")), ("a", -0.4))
    assert vote_features(found.candidates)[5:7] == pytest.approx((-1.6 / 3, -0.3))


def test_a_likely_leader_ends_sampling_where_the_rule_says_so():
    assert PriorRule(Likely(), (0.0,))(likely(("a", -0.05))) == "learned"
    assert PriorRule(Likely(), (0.0,))(likely(("a", -0.5), ("b", -0.01))) is None


@pytest.mark.parametrize("logprob", [None, float("nan")])
def test_without_the_log_probabilities_it_was_fitted_on_it_stops_as_lead_two(logprob):
    rule = PriorRule(Likely(), (0.0,))
    for answers in (("a",), ("a", "a"), ("a", "b", "a"), ("a", "b", "a", "a")):
        found = likely(*((answer, logprob) for answer in answers))
        assert bool(rule(found)) == bool(Lead(2)(found))


class Said(Once):
    """Stops where the leader says enough for itself."""

    reads_scores = True

    def advantage(self, features: np.ndarray, drawn: int) -> np.ndarray:
        return features[:, 7]


def test_leader_and_runner_up_are_scored_and_nobody_scores_nobody():
    scores = {"a": 1.5, "b": -0.5}
    assert vote_features(evidence("a", "b", "a").candidates, scores.__getitem__)[7:] == (1.5, -0.5)
    assert vote_features(evidence("b", "b").candidates, scores.__getitem__)[7:] == (-0.5, NO_SCORE)
    assert vote_features(evidence(None).candidates, scores.__getitem__)[7:] == (NO_SCORE, NO_SCORE)
    assert vote_features(evidence("a", "b").candidates)[7:] == (0.0, 0.0)


def test_an_answer_that_says_enough_ends_sampling_and_without_scores_the_rule_is_lead_two():
    scores = {"a": 1.5, "b": -0.5}
    assert PriorRule(Said(), (0.0,), scores.__getitem__)(evidence("a")) == "learned"
    assert PriorRule(Said(), (0.0,), scores.__getitem__)(evidence("b", "b", "b")) is None
    for answers in (("a",), ("b", "b"), ("a", "b", "a"), ("a", "b", "a", "a")):
        assert bool(PriorRule(Said(), (0.0,))(evidence(*answers))) == bool(Lead(2)(evidence(*answers)))


@pytest.mark.parametrize(
    ("spelling", "expected"), [("learned", True), ("(learned|fixed(5))&tokens(10)", True), ("lead(2)|fixed(3)", False)]
)
def test_a_rule_is_learned_where_any_part_of_it_is(spelling, expected):
    assert is_learned(parse_rule(spelling)) is expected
    assert not is_learned(None)
