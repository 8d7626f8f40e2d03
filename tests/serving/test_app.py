"""The routes: a request is counted once, by what its client got."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from rheostat.serving.app import Routes, Services
from rheostat.serving.metrics import Metrics
from tests.serving.test_targets import CONFIG


async def test_a_crash_of_an_endpoint_is_counted_as_the_500_that_its_client_gets():
    async def crashing(request):
        raise ZeroDivisionError

    metrics = Metrics()
    services = Services(config=CONFIG, executor=None, forwarder=None, recorder=None, metrics=metrics, status=None, finished=None)
    with pytest.raises(ZeroDivisionError):
        await Routes(services).guarded("chat", crashing)(Request({"type": "http"}))
    assert metrics.registry.get_sample_value("rheostat_requests_total", {"path": "chat", "status": "500"}) == 1
