from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.schema import Sampling
from rheostat.policies.asking import ask, share
from rheostat.policies.prompts import answer_only
from tests.policies import make


def asked(**sampling):
    query = make.question(sampling=Sampling(**sampling))
    return ask(query, make.context(seed=100), how=answer_only, max_tokens=9, temperature=0.8, n=2, first=6)


def test_the_strategy_fills_in_what_the_client_left_open():
    request = asked()
    assert (request.temperature, request.top_p, request.seed, request.n, request.max_tokens) == (0.8, 1.0, 106, 2, 9)


def test_the_clients_own_sampling_wins():
    request = asked(temperature=0.3, top_p=0.5, seed=7, stop=("\n",), extra={"tools": []})
    assert (request.temperature, request.top_p, request.seed, request.stop, request.extra) == (0.3, 0.5, 13, ("\n",), {"tools": []})


@given(st.integers(0, 10_000), st.integers(1, 256), st.one_of(st.none(), st.integers(1, 500)))
def test_shares_never_exceed_what_is_left_nor_the_clients_limit(left, samples, limit):
    cap = share(make.question(sampling=Sampling(max_tokens=limit)), left, samples)
    assert cap >= 1
    assert cap * samples <= max(left, samples)
    assert limit is None or cap <= limit
