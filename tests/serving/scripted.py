"""An engine that does what it is told, and a clock that stands still: for tests of pools without a process."""

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt
from rheostat.policies.base import GenerateRequest, Generation
from rheostat.serving.pool import Pool
from rheostat.serving.upstream import Replica

REQUEST = GenerateRequest(model="m", messages=(), max_tokens=10)
ATTEMPT = Attempt(model="m", kind="completion", status="ok", ledger=Ledger(calls=1), latency_s=0.0)


class Scripted:
    """Does what it is told, in turn: None works, an error is raised."""

    def __init__(self, name, *script):
        self.name = name
        self.script = list(script)
        self.calls = 0
        self.gate = None
        self.well = True
        self.gauges = {}
        self.requests = []
        self.closed = False

    async def _next(self):
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        error = self.script.pop(0) if self.script else None
        if error is not None:
            raise error

    async def generate(self, request, book):
        self.requests.append(request)
        await self._next()
        book.book(ATTEMPT)
        return Generation(completions=(), attempt=ATTEMPT)

    async def stream(self, request, book, *, said=None):
        yield b"first"
        await self._next()
        yield b"second"

    async def healthy(self):
        return self.well

    async def metrics(self):
        if isinstance(self.gauges, UpstreamError):
            raise self.gauges
        return self.gauges

    async def close(self):
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def down(status=None, retryable=True, retry_after_s=None):
    return UpstreamError("down", backend="x", status=status, retryable=retryable, retry_after_s=retry_after_s)


def pool_of(*engines, clock=None, full=100, **options):
    """A pool over engines, and the names it said had failed."""
    failed = []
    clock = clock or Clock()
    replicas = [Replica(engine, max_in_flight=full, clock=clock) for engine in engines]
    return Pool("m", replicas, on_failure=failed.append, on_retry=lambda _: None, clock=clock, **options), failed
