"""Limits hold for every order of requests, windows and costs."""

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.serving.config import LimitsConfig
from rheostat.serving.errors import of_error
from rheostat.serving.limits import DAY_S, MINUTE_S, Allowance, LimitError, Window

CAP = 1000


class Clock:
    def __init__(self, now_s=1_000_000.0 - 1_000_000.0 % DAY_S):
        self.now_s = now_s

    def __call__(self):
        return self.now_s


def allowance(clock=None, **limits):
    return Allowance("ann", LimitsConfig(**limits), clock or Clock())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.integers(1, CAP // 2), st.floats(0, 1)),
        st.tuples(st.just("end"), st.integers(0, 20), st.floats(0, 1)),
        st.tuples(st.just("wait"), st.integers(1, 2 * MINUTE_S), st.floats(0, 1)),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_window_is_ever_overspent_by_requests_that_keep_to_their_reservation(steps):
    clock = Clock()
    keeper = allowance(clock, tokens_per_minute=CAP)
    spent: dict[int, float] = {}
    held = []
    for kind, number, share in steps:
        if kind == "hold":
            with suppress(LimitError):
                held.append((keeper.hold(tokens=number, usd=0.0), int(number * share)))
        elif kind == "end" and held:
            hold, tokens = held.pop(number % len(held))
            with hold:
                hold.spent(tokens=tokens, usd=0.0)
            window = int(clock() // MINUTE_S)
            spent[window] = spent.get(window, 0) + tokens
        elif kind == "wait":
            clock.now_s += number
        assert all(amount <= CAP for amount in spent.values())
        assert keeper.tokens.left >= 0
    for hold, _ in held:
        with hold:
            pass
    assert keeper.tokens.reserved == 0


@given(st.lists(st.tuples(st.floats(0.01, 0.4), st.floats(0, 3)), min_size=1, max_size=40))
def test_dollars_go_over_the_cap_by_no_more_than_the_excess_of_one_request(requests):
    keeper = allowance(usd_per_day=1.0)
    spent = largest_excess = 0.0
    for reserved, factor in requests:
        try:
            with keeper.hold(tokens=1, usd=reserved) as hold:
                hold.spent(tokens=1, usd=reserved * factor)
        except LimitError:
            continue
        spent += reserved * factor
        largest_excess = max(largest_excess, reserved * (factor - 1))
    assert spent <= 1.0 + max(0.0, largest_excess) + 1e-9


def test_what_was_not_spent_can_be_reserved_again_at_once():
    keeper = allowance(tokens_per_minute=100)
    with keeper.hold(tokens=100, usd=0) as hold:
        with pytest.raises(LimitError):
            keeper.hold(tokens=1, usd=0)
        hold.spent(tokens=10, usd=0)
    assert keeper.tokens.left == 90


def test_a_request_that_ends_in_an_error_is_settled_with_what_it_said():
    keeper = allowance(tokens_per_minute=100)
    with suppress(ValueError), keeper.hold(tokens=60, usd=0) as hold:
        hold.spent(tokens=7, usd=0)
        raise ValueError
    assert keeper.tokens.spent == 7
    assert keeper.tokens.reserved == 0


def test_requests_are_counted_by_the_minute_of_the_clock_and_at_once():
    clock = Clock()
    keeper = allowance(clock, requests_per_minute=3, max_in_flight=2)
    keeper.enter()
    keeper.enter()
    with pytest.raises(LimitError, match="in flight"):
        keeper.enter()
    keeper.leave()
    keeper.enter()
    keeper.leave()
    with pytest.raises(LimitError, match="0 of 3 requests a minute") as caught:
        keeper.enter()
    assert caught.value.status == 429
    clock.now_s += caught.value.retry_after_s
    keeper.enter()


def test_a_request_that_can_never_fit_is_told_what_to_ask_for():
    with pytest.raises(LimitError, match=r"may need 3072: ask for less with max_tokens or rheostat\.max_tokens_total") as caught:
        allowance(tokens_per_minute=1000).hold(tokens=3072, usd=0)
    assert caught.value.retry_after_s is None
    headers = of_error(caught.value).headers
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers


def test_a_request_that_generates_nothing_is_told_to_bring_less():
    with pytest.raises(LimitError, match="may need 2: ask for less in fewer or shorter texts"):
        allowance(usd_per_day=1).hold(tokens=0, usd=2)


def test_dollars_that_are_used_up_are_a_quota_until_the_next_day():
    clock = Clock()
    keeper = allowance(clock, usd_per_day=0.5)
    keeper.hold(tokens=1, usd=0.4)
    with pytest.raises(LimitError, match=r"has 0\.1 of 0\.5 dollars a day left; this request may need 0\.2") as caught:
        keeper.hold(tokens=1, usd=0.2)
    assert (caught.value.code, caught.value.retry_after_s) == ("insufficient_quota", DAY_S)


def test_without_limits_everything_fits():
    keeper = allowance()
    for _ in range(1000):
        keeper.enter()
        keeper.hold(tokens=10**9, usd=10**6)
    assert keeper.in_flight == 1000


def test_other_limits_leave_what_was_used():
    keeper = allowance(tokens_per_minute=100)
    with keeper.hold(tokens=80, usd=0) as hold:
        hold.spent(tokens=80, usd=0)
    keeper.limit(LimitsConfig(tokens_per_minute=50))
    assert keeper.tokens.left == 0


def test_a_clock_that_jumps_back_forgives_nothing():
    clock = Clock()
    window = Window(10, MINUTE_S, clock)
    clock.now_s += 10 * MINUTE_S
    window.settle(0, 10)
    clock.now_s -= 5 * MINUTE_S
    assert not window.fits(1)


def test_a_window_without_a_cap_is_never_full():
    assert Window(math.inf, DAY_S).fits(10**18)
