"""Posteriors over votes, from exact integer sums: small, without scipy, since the sidecar evaluates them per wave.

v1 and v2 are the votes of two answers. With integer arguments the incomplete beta at 1/2 is a binomial tail:
I_1/2(a, b) = P(Bin(a + b - 1, 1/2) >= a).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

GRID = 512  # intervals of Simpson's rule; the integrand is smooth, and 512 leave an error under 1e-5
TAIL = 12.0  # standard deviations covered beyond the mean of the widest gamma


def p_ahead(v1: int, v2: int) -> float:
    """1 - I_1/2(v1 + 1, v2 + 1): the chance, under a flat prior, that the first answer is the likelier of the two."""
    return float(Fraction(_lower_sum(v1, v2), 2 ** (v1 + v2 + 1)))


def e_value(v1: int, v2: int) -> float:
    """2^(v1+v2+1) B(v1+1, v2+1) (1 - I_1/2(v1+1, v2+1)): the evidence against "the first is no likelier than the second".

    An e-process: under that hypothesis its expectation is at most 1 at any stopping time.
    """
    n = v1 + v2 + 1
    return float(Fraction(_lower_sum(v1, v2), n * math.comb(n - 1, v1)))


def share_of_alpha(alpha: float, k: int) -> float:
    """alpha_k = 6 alpha / (pi^2 k^2), k >= 1: shares that sum to alpha over all k."""
    return 6.0 * alpha / (math.pi**2 * k**2)


def p_mode(leader: int, rivals: Sequence[int]) -> float:
    """The chance that an answer with `leader` votes is the likeliest of all, under a flat Dirichlet prior.

    The Dirichlet is made of independent gammas G_i ~ Gamma(v_i + 1), so it is the integral of the leader's density
    times the product of the rivals' distribution functions, by Simpson's rule.
    """
    shape = leader + 1
    step = (shape + TAIL * math.sqrt(shape) + 2 * TAIL) / GRID
    values = [_density(shape, at * step) * math.prod(_distribution(v + 1, at * step) for v in rivals) for at in range(GRID + 1)]
    return min(1.0, step / 3 * (values[0] + 4 * sum(values[1::2]) + 2 * sum(values[2:-1:2]) + values[-1]))


def _lower_sum(v1: int, v2: int) -> int:
    """The sum of C(n, j) for j <= v1, with n = v1 + v2 + 1."""
    n = v1 + v2 + 1
    return sum(math.comb(n, j) for j in range(v1 + 1))


def _density(shape: int, x: float) -> float:
    if x == 0.0:
        return 1.0 if shape == 1 else 0.0
    return math.exp((shape - 1) * math.log(x) - x - math.lgamma(shape))


def _distribution(shape: int, x: float) -> float:
    """P(Gamma(shape) <= x) for an integer shape: 1 - e^-x sum of x^j / j! for j < shape."""
    term = total = math.exp(-x)
    for j in range(1, shape):
        term *= x / j
        total += term
    return 1.0 - total
