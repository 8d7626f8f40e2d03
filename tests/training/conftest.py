from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from rheostat.data.ledger import Ledger
from rheostat.data.schema import Decision, Outcome
from rheostat.data.store import OutcomeStore
from rheostat.training.tracking_server import TrackingServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A real MLflow over HTTP, started once."""
    folder: Path = tmp_path_factory.mktemp("mlflow")
    with TrackingServer(folder) as server:
        yield server


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers whose chat completions come from a handler; gives their root URL."""
    runners = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", handler)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def write_store(path: Path, n: int, *, start: int = 0, reward: float | None = 1.0) -> None:
    """Add `n` finished requests, numbered from `start`, to a store."""
    with OutcomeStore(path) as store:
        for i in range(start, start + n):
            store.put(
                Decision(
                    decision_id=f"d{i:04}",
                    query_id=f"q{i}",
                    created_s=float(i),
                    action="m/cot@64" if i % 2 else "m/direct@8",
                    propensity=0.5,
                    bundle="7",
                    prompt_text=f"What is {i} + 1?",
                    degraded="load" if i % 4 == 0 else None,
                )
            )
            ledger = Ledger(calls=1, prompt=10, completion=5, wasted=1)
            outcome = Outcome(
                decision_id=f"d{i:04}", finished_s=i + 1.0, status="ok", ledger=ledger, cost_usd=0.5, latency_s=0.25, reward=reward
            )
            store.put(outcome)
