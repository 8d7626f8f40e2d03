"""What a request may spend, and what is left of its deadline."""

import contextvars
import time

from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.schema import Constraints
from rheostat.serving.context import RequestContext, enter
from rheostat.serving.terms import Terms
from rheostat.serving.tracing import Trace

deadlines = st.none() | st.floats(0.0, 1e6)


def after(waited_s, ask):
    """The answer inside of a request that came so many seconds ago."""

    def inside():
        enter(RequestContext(Trace("", ""), time.monotonic() - waited_s))
        return ask()

    return contextvars.copy_context().run(inside)


@given(deadlines, deadlines)
def test_the_requests_own_deadline_goes_before_that_of_its_tier(tier_s, own_s):
    terms = Terms(defaults=Constraints(deadline_s=tier_s), own=Constraints(deadline_s=own_s))
    assert terms.deadline_s == (tier_s if own_s is None else own_s)
    assert terms.left == terms


@given(st.floats(1.0, 1e6), st.floats(0.0, 2e6))
def test_a_deadline_runs_from_the_arrival_and_never_below_nothing(deadline_s, waited_s):
    terms = Terms(defaults=Constraints(deadline_s=deadline_s), own=Constraints(max_tokens_total=7))
    left_s = after(waited_s, lambda: terms.deadline_s)
    assert 0.0 <= left_s <= max(deadline_s - waited_s, 0.0)
    assert after(waited_s, lambda: terms.left.defaults.deadline_s) <= max(deadline_s - waited_s, 0.0)


def test_limits_hold_for_all_actions_of_a_request_together():
    terms = Terms(defaults=Constraints(max_tokens_total=9, max_cost_usd=0.5), own=Constraints(max_tokens_total=7))
    assert (terms.limits.tokens, terms.limits.cost_usd, terms.limits.deadline_s) == (7, 0.5, None)
