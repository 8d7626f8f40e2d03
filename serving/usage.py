"""What tenants used, by day of UTC, counted from the outcome store: it survives restarts, and nothing is counted twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Protocol

from rheostat.data.errors import RequestError
from rheostat.data.schema import Decision, Outcome
from rheostat.serving.limits import DAY_S
from rheostat.serving.shapes import DayUsage

MAX_DAYS = 62  # all of last month, to the last day of this one


class Finished(Protocol):
    """The part of the store that is read here."""

    def finished_since(self, created_s: float) -> Iterator[tuple[Decision, Outcome]]:
        """All decisions made since then that have an outcome, with it."""
        ...


def usage_by_day(store: Finished, *, days: int = 1, tenant: str | None = None, now_s: float | None = None) -> list[DayUsage]:
    """Usage of the last days, today included; call it in a thread, since it reads the disk.

    Args:
        store: where outcomes are.
        days: how many, from 1 to `MAX_DAYS`.
        tenant: only this one's; None is all.
        now_s: Unix seconds; None is now.

    Returns:
        One row a day and tenant, newest day first, then by tenant.
    """
    now_s = time.time() if now_s is None else now_s
    since_s = (now_s // DAY_S - (days - 1)) * DAY_S
    totals: dict[tuple[str, str], DayUsage] = {}
    for decision, outcome in store.finished_since(since_s):
        if tenant is None or decision.tenant == tenant:
            day = _day(decision.created_s)
            total = totals.get((day, decision.tenant)) or DayUsage(day=day, tenant=decision.tenant)
            totals[day, decision.tenant] = _plus(total, outcome)
    return sorted(sorted(totals.values(), key=lambda row: row.tenant), key=lambda row: row.day, reverse=True)


def days_asked(query: Mapping[str, str]) -> int:
    """The `days` of a query string, 1 where none is given.

    Raises:
        RequestError: not a number from 1 to `MAX_DAYS`.
    """
    days = query.get("days", "1")
    if not (days.isascii() and days.isdigit() and 1 <= int(days[:4]) <= MAX_DAYS):
        raise RequestError(f"days: {days[:20]!r} is no number from 1 to {MAX_DAYS}", param="days")
    return int(days)


def usd_today(store: Finished) -> dict[str, float]:
    """What every tenant has spent today, in dollars."""
    return {row.tenant: row.cost_usd for row in usage_by_day(store)}


def _plus(total: DayUsage, outcome: Outcome) -> DayUsage:
    return DayUsage(
        day=total.day,
        tenant=total.tenant,
        requests=total.requests + 1,
        failed=total.failed + (outcome.status == "failed"),
        prompt_tokens=total.prompt_tokens + outcome.ledger.prompt,
        cached_tokens=total.cached_tokens + outcome.ledger.cached_prompt,
        generated_tokens=total.generated_tokens + outcome.ledger.generated,
        cost_usd=total.cost_usd + outcome.cost_usd,
    )


def _day(created_s: float) -> str:
    return datetime.fromtimestamp(created_s, UTC).date().isoformat()
