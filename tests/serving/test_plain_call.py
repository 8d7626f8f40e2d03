"""Who gets one plain call of a model, and how much it may generate."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.schema import Action, Decision, Guarantee, Query, Sampling
from rheostat.serving.config import parse
from rheostat.serving.plain_call import answer_tokens, in_form, plain_action
from rheostat.serving.wire import Chat

CONFIG = parse(
    '[[backend]]\nname = "a"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\ncontext_tokens = 512\n'
    '[[backend]]\nname = "b"\nurl = "http://127.0.0.1:2"\nmodel = "pocket"\ncontext_tokens = 256\n'
)
TOOLS = {"tools": [{"type": "function", "function": {"name": "add"}}]}
SCHEMA = {"response_format": {"type": "json_schema"}}
SINGLE, SEVERAL = "pocket/cot@64", "pocket/self_consistency(k=4)@256"


def chat(*, n=1, max_tokens=None, action=None, **extra):
    query = Query(query_id="q_1", messages=(), sampling=Sampling(max_tokens=max_tokens, extra=extra))
    return Chat(model="auto", query=query, n=n, action=action)


def decided(action):
    return Decision(decision_id="d_1", query_id="q_1", created_s=0.0, action=action, propensity=1.0, p_correct=0.5)


@given(st.integers(1, 10_000), st.integers(1, 8))
def test_every_answer_gets_what_the_client_said(max_tokens, n):
    asked = chat(n=n, max_tokens=max_tokens)
    assert answer_tokens("pocket", asked, CONFIG) == max_tokens
    assert plain_action("pocket", asked, CONFIG).max_tokens == n * max_tokens


@given(st.integers(1, 128))
def test_left_open_an_answer_gets_half_of_the_shortest_context_at_most(n):
    assert 1 <= answer_tokens("pocket", chat(n=n), CONFIG) <= 128


@pytest.mark.parametrize("asked", [chat(**TOOLS), chat(**SCHEMA), chat(n=2), chat(structured_outputs={"choice": ["a"]})])
def test_a_fixed_form_takes_the_place_of_a_single_call_and_its_prediction(asked):
    changed = in_form(decided(SINGLE), asked, CONFIG)
    assert Action.parse(changed.action) == plain_action("pocket", asked, CONFIG)
    assert changed.p_correct is None


def test_a_plain_call_keeps_no_promise_of_the_action_it_took_the_place_of():
    promised = msgspec.structs.replace(decided(SINGLE), guarantee=Guarantee(target=0.7, confidence=0.9, holds=True, attainable=0.8))
    assert in_form(promised, chat(), CONFIG).guarantee.holds
    changed = in_form(promised, chat(**TOOLS), CONFIG).guarantee
    assert (changed.holds, changed.attainable) == (False, 0.8)


@pytest.mark.parametrize(
    ("action", "asked"),
    [
        (SINGLE, chat()),
        (SINGLE, chat(response_format={"type": "text"})),
        (SEVERAL, chat(**TOOLS)),
        (SINGLE, chat(action=Action.parse(SINGLE), **TOOLS)),
    ],
)
def test_a_decision_stays_where_its_strategy_keeps_the_form_or_was_asked_for(action, asked):
    assert in_form(decided(action), asked, CONFIG) == decided(action)
