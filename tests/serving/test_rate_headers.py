import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.serving.config import LimitsConfig
from rheostat.serving.limits import Allowance
from rheostat.serving.rate_headers import duration, rate_headers

NOON_S = 12 * 3600.0


def allowance(now_s=NOON_S, **limits):
    return Allowance("ann", LimitsConfig(**limits), lambda: now_s)


def test_what_is_not_limited_is_not_told():
    assert rate_headers(allowance()) == {}
    assert set(rate_headers(allowance(tokens_per_minute=5))) == {
        "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
    }  # fmt: skip


def test_what_requests_in_flight_have_set_aside_counts_as_used():
    keeper = allowance(NOON_S + 18, requests_per_minute=60, tokens_per_minute=1000)
    keeper.enter()
    with keeper.hold(tokens=300, usd=0) as hold:
        assert rate_headers(keeper)["x-ratelimit-remaining-tokens"] == "700"
        hold.spent(tokens=10, usd=0)
    assert rate_headers(keeper) == {
        "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "42s",
        "x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "990", "x-ratelimit-reset-tokens": "42s",
    }  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1s"), (59.5, "1m0s"), (60, "1m0s"), (86_399, "1439m59s")])
def test_times_are_written_as_openai_does(seconds, text):
    assert duration(seconds) == text


@given(st.integers(0, 86_400_000))
def test_who_waits_as_long_as_told_has_waited_long_enough(milliseconds):
    seconds = milliseconds / 1000
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(\d+)s", duration(seconds)).groups(default="0")
    assert seconds <= 60 * int(minutes) + int(rest) < seconds + 1
