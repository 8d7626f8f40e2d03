import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from rheostat.policies import tails

votes = st.integers(0, 60)


@given(votes, votes)
def test_p_ahead_is_the_incomplete_beta(v1, v2):
    assert tails.p_ahead(v1, v2) == pytest.approx(1 - special.betainc(v1 + 1, v2 + 1, 0.5), abs=1e-12)


@given(votes, votes)
def test_e_value_is_the_formula(v1, v2):
    log_scale = (v1 + v2 + 1) * math.log(2) + special.betaln(v1 + 1, v2 + 1)
    assert tails.e_value(v1, v2) == pytest.approx(math.exp(log_scale) * tails.p_ahead(v1, v2), rel=1e-6)


@given(st.integers(0, 30))
def test_e_value_is_fair_under_the_null(total):
    expected = sum(math.comb(total, v1) / 2**total * tails.e_value(v1, total - v1) for v1 in range(total + 1))
    assert expected == pytest.approx(1.0)


def test_the_shares_of_alpha_sum_to_alpha():
    assert sum(tails.share_of_alpha(0.05, k) for k in range(1, 20_000)) == pytest.approx(0.05, rel=1e-4)


@given(votes, votes)
def test_p_mode_of_two_answers_is_p_ahead(v1, v2):
    assert tails.p_mode(v1, [v2]) == pytest.approx(tails.p_ahead(v1, v2), abs=1e-5)


@pytest.mark.parametrize("counts", [(5, [3, 2, 0]), (1, [1, 1, 1]), (12, [0]), (0, [0, 0])])
def test_p_mode_is_the_integral_over_independent_gammas(counts):
    leader, rivals = counts

    def integrand(x):
        density = math.exp(leader * math.log(x) - x - math.lgamma(leader + 1)) if x else float(leader == 0)
        return density * math.prod(special.gammainc(v + 1, x) for v in rivals)

    expected, _ = integrate.quad(integrand, 0, 120, limit=400)
    assert tails.p_mode(leader, rivals) == pytest.approx(expected, abs=1e-5)
