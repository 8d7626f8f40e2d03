from hypothesis import given
from hypothesis import strategies as st

from rheostat.serving.breaker import EARLY_S, FAILURES_TO_OPEN, LONGEST_PAUSE_S, RETRIES_AT_START, Breaker, RetryBudget
from tests.serving.scripted import Clock


def opened(clock):
    breaker = Breaker(clock)
    for _ in range(FAILURES_TO_OPEN):
        assert not breaker.is_open
        breaker.failed()
    assert breaker.is_open
    return breaker


def test_pauses_double_up_to_a_longest_one():
    clock = Clock()
    breaker = opened(clock)
    pauses = []
    for _ in range(8):
        pauses.append(breaker.left_s)
        clock.now += breaker.left_s
        assert not breaker.is_open
        breaker.failed()
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_after_a_pause_one_call_at_a_time_is_let_through():
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1
    trial = breaker.begin()
    assert trial
    assert breaker.is_open
    breaker.end(trial=trial)
    assert not breaker.is_open


def test_a_call_that_began_before_does_not_end_the_trial():
    clock = Clock()
    breaker = Breaker(clock)
    early = breaker.begin()
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed()
    clock.now += 1
    assert breaker.begin()
    breaker.end(trial=early)
    assert breaker.is_open


def test_one_success_forgets_all_failures():
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1
    breaker.succeeded(trial=False)
    breaker.failed()
    assert not breaker.is_open


def test_a_pause_that_was_asked_for_is_kept_but_not_for_ever():
    clock = Clock()
    breaker = Breaker(clock)
    breaker.pause(3)
    breaker.pause(1)
    assert breaker.left_s == 3
    breaker.pause(1e9)
    assert breaker.left_s == LONGEST_PAUSE_S


def test_a_call_now_and_then_may_go_ahead_of_a_pause_that_was_earned():
    clock = Clock()
    breaker = opened(clock)
    assert not breaker.may_be_tried
    for _ in range(3):
        clock.now += EARLY_S
        assert breaker.may_be_tried
        assert breaker.begin()
        assert not breaker.may_be_tried


def test_a_trial_that_succeeds_ends_the_pause_it_went_ahead_of_and_a_call_that_began_before_does_not():
    clock = Clock()
    breaker = Breaker(clock)
    before = breaker.begin()
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed()
    trial = breaker.begin()
    breaker.succeeded(trial=before)
    breaker.end(trial=before)
    assert breaker.is_open
    breaker.succeeded(trial=trial)
    breaker.end(trial=trial)
    assert not breaker.is_open


def test_what_a_replica_asks_for_it_gets_whatever_succeeds():
    breaker = Breaker(Clock())
    trial = breaker.begin()
    breaker.pause(20)
    breaker.succeeded(trial=trial)
    assert breaker.is_open


def test_failures_in_a_pause_make_it_no_longer():
    clock = Clock()
    breaker = opened(clock)
    for _ in range(100):
        breaker.failed()
    assert breaker.left_s == 1
    clock.now += 1
    breaker.failed()
    assert breaker.left_s == 2


@given(st.floats(0, 1), st.lists(st.booleans(), max_size=400))
def test_retries_are_at_most_their_share_of_the_calls(share, events):
    budget = RetryBudget(share)
    calls = retries = 0
    for is_call in events:
        if is_call:
            budget.called()
            calls += 1
        else:
            retries += budget.take()
    assert retries <= RETRIES_AT_START + share * calls


def test_without_a_share_nothing_is_retried():
    budget = RetryBudget(0.0)
    budget.called()
    assert not budget.take()
