from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.ledger import TOKENS_PER_PRICE_UNIT, Ledger, Price

COUNT = st.integers(0, 10**9)
LEDGERS = st.builds(Ledger, calls=COUNT, prompt=COUNT, cached_prompt=COUNT, completion=COUNT, reasoning=COUNT, verifier=COUNT, wasted=COUNT)


@given(LEDGERS, LEDGERS, LEDGERS)
def test_adding_is_associative_and_has_a_zero(a: Ledger, b: Ledger, c: Ledger) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Ledger() == a


@given(LEDGERS, LEDGERS)
def test_every_count_is_added(a: Ledger, b: Ledger) -> None:
    for name in Ledger.__struct_fields__:
        assert getattr(a + b, name) == getattr(a, name) + getattr(b, name)


@given(LEDGERS, LEDGERS)
def test_generated_tokens_and_cost_are_conserved_by_adding(a: Ledger, b: Ledger) -> None:
    price = Price(usd_per_1m_input=0.5, usd_per_1m_cached=0.1, usd_per_1m_output=2.0)
    assert (a + b).generated == a.generated + b.generated
    assert (a + b).cost_usd(price) == pytest.approx(a.cost_usd(price) + b.cost_usd(price))


@given(LEDGERS)
def test_the_default_price_counts_generated_tokens(ledger: Ledger) -> None:
    assert ledger.cost_usd(Price()) * TOKENS_PER_PRICE_UNIT == pytest.approx(ledger.generated)


def test_cached_prompt_tokens_have_their_own_price() -> None:
    price = Price(usd_per_1m_input=10.0, usd_per_1m_cached=1.0, usd_per_1m_output=0.0)
    assert Ledger(prompt=1_000_000, cached_prompt=400_000).cost_usd(price) == pytest.approx(6.4)
