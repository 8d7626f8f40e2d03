"""Usage is counted from the store, by day and tenant."""

from datetime import UTC, datetime

import pytest

from rheostat.data.errors import RequestError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Decision, Outcome, id_at
from rheostat.data.store import OutcomeStore
from rheostat.serving.limits import DAY_S
from rheostat.serving.usage import MAX_DAYS, days_asked, usage_by_day, usd_today

NOON_S = 20_000 * DAY_S + DAY_S / 2


@pytest.fixture
def store(tmp_path):
    made = OutcomeStore(tmp_path / "outcomes.db")
    yield made
    made.close()


def serve(store, number, *, created_s=NOON_S, tenant="ann", status="ok", finished=True):
    decision_id = f"{id_at('d', created_s)}{number}"
    store.put(Decision(decision_id=decision_id, query_id="q", created_s=created_s, action="a/cot@9", propensity=1.0, tenant=tenant))
    if finished:
        ledger = Ledger(calls=1, prompt=10, cached_prompt=4, completion=5, verifier=2, wasted=1)
        store.put(Outcome(decision_id=decision_id, finished_s=created_s + 1, status=status, ledger=ledger, cost_usd=0.25, latency_s=1.0))


def test_a_day_is_the_sum_of_its_outcomes(store):
    for number in range(3):
        serve(store, number, status="failed" if number == 0 else "ok")
    serve(store, 3, finished=False)
    store.flush()
    (row,) = usage_by_day(store, now_s=NOON_S)
    assert (row.tenant, row.day, row.requests, row.failed) == ("ann", "2024-10-04", 3, 1)
    assert (row.prompt_tokens, row.cached_tokens, row.generated_tokens, row.cost_usd) == (30, 12, 24, 0.75)


def test_days_and_tenants_are_apart_and_the_newest_comes_first(store):
    serve(store, 1, created_s=NOON_S - DAY_S)
    serve(store, 2)
    serve(store, 3, tenant="bob")
    store.flush()
    rows = usage_by_day(store, days=2, now_s=NOON_S)
    assert [(row.day, row.tenant) for row in rows] == [("2024-10-04", "ann"), ("2024-10-04", "bob"), ("2024-10-03", "ann")]
    assert [row.tenant for row in usage_by_day(store, days=1, tenant="bob", now_s=NOON_S)] == ["bob"]


def test_all_of_last_month_is_there_to_the_end_of_this_one(store):
    first, last = (datetime(2024, month, day, 12, tzinfo=UTC).timestamp() for month, day in ((7, 1), (8, 31)))
    serve(store, 1, created_s=first)
    store.flush()
    assert [row.day for row in usage_by_day(store, days=MAX_DAYS, now_s=last)] == ["2024-07-01"]


def test_more_than_a_page_of_outcomes_is_counted_once_each(store):
    for number in range(4500):
        serve(store, f"{number:05d}")
    assert store.flush(30)
    (row,) = usage_by_day(store, now_s=NOON_S)
    assert row.requests == 4500


def test_nothing_was_spent_today_in_an_empty_store(store):
    assert usd_today(store) == {}


@pytest.mark.parametrize("days", ["0", "63", "-1", "x", "1.5", "", "９", "1" * 5000])
def test_days_that_are_no_days_are_refused(days):
    with pytest.raises(RequestError) as caught:
        days_asked({"days": days})
    assert caught.value.param == "days"


def test_days_are_one_unless_asked():
    assert (days_asked({}), days_asked({"days": "62"})) == (1, 62)
