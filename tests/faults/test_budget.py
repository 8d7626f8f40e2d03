"""Keys with a budget, asked from many sides at once while calls fail, break off and say nothing of what they used."""

import asyncio
import hashlib
import json
from collections import Counter

import aiohttp
import pytest

from tests.faults.conftest import FaultyEngine, Stack, is_openai_error, metric, post
from tests.serving.conftest import Sidecar, running, wait_until

SECRET = "sk-budget-0123456789"
HEADERS = {"Authorization": f"Bearer {SECRET}"}
CAP_TOKENS, RESERVED_TOKENS = 6_000, 400  # a generated token costs a millionth of a dollar here
KEY = f"""[[key]]
name = "spender"
sha256 = "{hashlib.sha256(SECRET.encode()).hexdigest()}"
[key.limits]
usd_per_day = {CAP_TOKENS / 1e6}
"""
VARIANTS = (
    {"model": "pocket", "max_tokens": RESERVED_TOKENS},
    {"model": "pocket", "max_tokens": RESERVED_TOKENS, "stream": True},
    {"rheostat": {"action": f"pocket/self_consistency(k=4)@{RESERVED_TOKENS}"}},
    {"rheostat": {"action": f"pocket/self_consistency(k=4)@{RESERVED_TOKENS}"}, "stream": True},
)
FAULTS = ("ok", "no_usage", "endless", "truncate", "error_500", "reset", "ok", "no_usage", "endless", "hang_one")


@pytest.fixture
def spending(tmp_path):
    slow = ("--token-s", "0.0005")
    with (
        running(FaultyEngine(tmp_path, model="pocket", options=slow)) as first,
        running(FaultyEngine(tmp_path, model="pocket", options=slow)) as second,
        running(Sidecar(tmp_path, [first, second], more=KEY)) as sidecar,
    ):
        for engine in (first, second):
            engine.does(*FAULTS)
        yield Stack(sidecar, first, second)


async def ask(spending, session, number):
    """The status of one request, and whether an error is one; every fifth client leaves early."""
    fields = dict(VARIANTS[number % len(VARIANTS)])
    fields["rheostat"] = {**fields.get("rheostat", {}), "deadline_ms": 3_000}
    asked = asyncio.create_task(post(spending.sidecar, session, HEADERS, **fields))
    if number % 5 == 0:
        await asyncio.wait({asked}, timeout=0.02)
        asked.cancel()
    try:
        status, _, body = await asked
    except (asyncio.CancelledError, aiohttp.ClientError):
        return "left"
    assert status == 200 or is_openai_error(body)
    return json.loads(body)["error"]["code"] if status == 429 else status


async def test_a_budget_is_never_over_by_more_than_one_reservation_whatever_happens(spending):
    seen = Counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for wave in range(8):
            seen.update(await asyncio.gather(*(ask(spending, session, 20 * wave + i) for i in range(20))))
    await asyncio.to_thread(wait_until, lambda: spending.metric("rheostat_reserved_tokens") == 0)
    await asyncio.to_thread(wait_until, lambda: spending.sidecar.ready()["store"]["queued"] == 0)
    spent_tokens = sum(outcome.ledger.generated for outcome in spending.outcomes())
    assert 0 < spent_tokens <= CAP_TOKENS + RESERVED_TOKENS
    assert seen["insufficient_quota"] > 0
    assert seen[200] > 0


async def test_what_was_set_aside_is_given_back_in_full_however_requests_end(spending):
    """As many requests as the budget holds reservations: some fail, some are cancelled, and the rest of the budget is there."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(ask(spending, session, i) for i in range(10)))
        for engine in spending.engines:
            engine.does("ok")
        await asyncio.to_thread(wait_until, lambda: spending.metric("rheostat_reserved_tokens") == 0)
        await asyncio.to_thread(wait_until, lambda: spending.sidecar.ready()["store"]["queued"] == 0)
        left = CAP_TOKENS - sum(outcome.ledger.generated for outcome in spending.outcomes())
        fits, too_much = left - 10, left + 10
        assert (await post(spending.sidecar, session, HEADERS, model="pocket", max_tokens=too_much))[0] == 429
        assert (await post(spending.sidecar, session, HEADERS, model="pocket", max_tokens=fits))[0] == 200


async def test_after_a_restart_the_day_goes_on_from_what_was_spent(spending):
    (config,) = spending.sidecar.store.parent.glob("rheostat-*.toml")
    async with aiohttp.ClientSession() as session:
        for engine in spending.engines:
            engine.does("endless")
        while (await post(spending.sidecar, session, HEADERS, **VARIANTS[0]))[0] == 200:
            pass
    assert await asyncio.to_thread(spending.sidecar.stop) == 0
    with running(Restarted(config, spending.sidecar)) as again:
        status, _, body = await post(again, None, HEADERS, **VARIANTS[0])
        assert (status, json.loads(body)["error"]["code"]) == (429, "insufficient_quota")
        assert metric(again, "rheostat_upstream_calls_total") == 0


class Restarted(Sidecar):
    """A sidecar on the config, port and store of one that has ended."""

    def __init__(self, config, before):
        self.store, self.port, self.url = before.store, before.port, before.url
        self.start(config)
