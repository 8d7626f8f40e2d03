import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rheostat.data.errors import ActionError
from rheostat.policies.evidence import count_answers
from rheostat.policies.stopping import (
    RULES,
    AllOf,
    AnyOf,
    Beta,
    Certified,
    Curtail,
    Dirichlet,
    Esc,
    Fixed,
    Lead,
    Tokens,
    parse_rule,
)
from tests.policies import make

answers = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=24)
simple = st.one_of(
    st.builds(Fixed, st.integers(1, 99)),
    st.builds(Lead, st.integers(1, 99)),
    st.just(Curtail()),
    st.builds(Beta, st.floats(0.51, 0.9999)),
    st.builds(Dirichlet, st.floats(0.51, 0.9999)),
    st.builds(Esc, st.integers(2, 99)),
    st.builds(Certified, st.floats(1e-9, 0.999)),
    st.builds(Tokens, st.integers(1, 10**9)),
)
rules = st.recursive(
    simple, lambda inner: st.one_of(st.builds(lambda a, b: a | b, inner, inner), st.builds(lambda a, b: a & b, inner, inner))
)


def first_stop(rule, drawn, planned=None):
    """How many of `drawn` had come when the rule stopped, evaluated after every one; None if it never did."""
    planned = planned or len(drawn)
    return next((n for n in range(1, len(drawn) + 1) if rule(make.evidence(drawn[:n], planned))), None)


@given(rules)
def test_a_rule_is_rebuilt_from_its_spelling(rule):
    assert parse_rule(str(rule)) == rule


@given(rules, rules, answers)
def test_rules_compose_as_logic_does(a, b, drawn):
    evidence = make.evidence(drawn)
    assert bool((a | b)(evidence)) == (bool(a(evidence)) or bool(b(evidence)))
    assert bool((a & b)(evidence)) == (bool(a(evidence)) and bool(b(evidence)))


def test_and_binds_tighter_than_or_and_parentheses_win():
    assert parse_rule("lead(2)|fixed(8)&curtail") == AnyOf((Lead(2), AllOf((Fixed(8), Curtail()))))
    assert parse_rule("(lead(2) | fixed(n=8)) & curtail()") == AllOf((AnyOf((Lead(2), Fixed(8))), Curtail()))


def test_every_rule_of_the_registry_is_spelled_by_its_name():
    assert all(rule.spelling == name for name, rule in RULES.items())


def test_an_unknown_rule_lists_the_known_ones():
    with pytest.raises(ActionError, match=r"unknown stop rule 'magic'.*fixed, lead, curtail, beta"):
        parse_rule("magic(3)")


UNREADABLE = """; lead; lead(; lead(2; lead(2)); lead(x); lead(2.5); lead(1.2.3); lead(2)|; lead(m=2,q=3); lead(2,3); lead(0); beta(1);
beta(0.2); fixed(0); esc(1); tokens(0); certified(0); dirichlet(2); lead(2) fixed(3); lead(2)+1; (lead(2)"""


@pytest.mark.parametrize("spelling", UNREADABLE.split(";"))
def test_a_rule_that_cannot_be_is_refused_by_name(spelling):
    with pytest.raises(ActionError):
        parse_rule(spelling)


@given(answers, st.integers(1, 30))
def test_fixed_stops_at_n_drawn(drawn, n):
    assert first_stop(Fixed(n), drawn) == (n if n <= len(drawn) else None)


@given(answers)
def test_lead_stops_at_the_first_margin_of_m(drawn):
    stop = first_stop(Lead(3), drawn)
    margins = [count_answers(drawn[:n]).margin for n in range(1, len(drawn) + 1)]
    assert stop == next((n for n, margin in enumerate(margins, 1) if margin >= 3), None)


@given(answers)
def test_curtail_elects_what_all_samples_would(drawn):
    stop = first_stop(Curtail(), drawn)
    assume(stop is not None)
    assert count_answers(drawn[:stop]).leader == count_answers(drawn).leader


def test_curtail_stops_once_the_rest_cannot_change_the_winner():
    assert first_stop(Curtail(), ["1"] * 8) == 5


def test_a_unanimous_vote_stops_after_four_at_95_percent():
    assert first_stop(Beta(0.95), ["1"] * 16) == 4
    assert first_stop(Dirichlet(0.95), ["1"] * 16) == 4


@given(answers)
def test_dirichlet_is_never_bolder_than_beta(drawn):
    evidence = make.evidence(drawn)
    assume(abs(len(drawn)) > 0)
    if Dirichlet(0.9)(evidence):
        assert Beta(0.9)(evidence)


def test_esc_wants_a_unanimous_window_of_votes():
    assert first_stop(Esc(3), ["1", "2", "2", None, "2"]) == 5
    assert first_stop(Esc(3), ["1", "2", "1", "2"]) is None


def test_tokens_counts_what_candidates_took():
    assert first_stop(Tokens(25), ["1"] * 5) == 3


@given(simple, st.integers(1, 20))
def test_samples_without_an_answer_convince_no_voting_rule(rule, n):
    assume(not isinstance(rule, Fixed | Tokens))
    assert rule(make.evidence([None] * n, planned=n + 1)) is None


def test_certified_counts_after_the_leader_took_the_lead():
    # The first vote makes it the suspect; eight more are the evidence: (2^9 - 1) / 9 = 56.8 >= 32.9.
    assert first_stop(Certified(0.05), ["1"] * 16) == 9


def test_certified_charges_a_later_leader_more():
    fresh = first_stop(Certified(0.05), ["1"] * 40)
    second = first_stop(Certified(0.05), ["2", "1", *["1"] * 40])
    assert fresh is not None
    assert second is not None
    assert second > fresh + 2


def false_certifications(rule, runs, seed):
    rng = random.Random(seed)
    return sum(first_stop(rule, [rng.choice("ab") for _ in range(64)]) is not None for _ in range(runs)) / runs


def test_at_a_tie_certified_is_wrong_in_at_most_five_percent_of_runs():
    assert false_certifications(Certified(0.05), 400, seed=1) <= 0.05


def test_at_a_tie_the_other_rules_are_wrong_far_more_often():
    assert false_certifications(Lead(3), 150, seed=2) > 0.5
    assert false_certifications(Beta(0.95), 150, seed=2) > 0.2
