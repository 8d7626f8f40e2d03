"""What an engine can do, found out by asking it: every feature that strategies and the ledger rely on, one probe each.

A server that takes a field and ignores it looks just like one that honours it, so each probe looks at what came back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal, Protocol, cast

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.policies.base import Backend, Booking, GenerateRequest, Meter, Said

PROMPT = ({"role": "user", "content": "Count from one to twenty in words, then explain what a prime number is."},)
SHORT_TOKENS, LONG_TOKENS = 24, 384
THINKING_TOKENS = 8
CANCEL_BOUND_S = 0.25
PROBE_TIMEOUT_S = 60.0
RUNNING = "num_requests_running"

Finding = Literal["ok", "off", "fail"]


class Asked(Backend, Protocol):
    """What a probe needs of a backend."""

    def stream(self, request: GenerateRequest, book: Booking, *, said: Said | None = None) -> AsyncIterator[bytes]:
        """The bytes of one call."""
        ...

    async def models(self) -> list[str]:
        """The names it serves."""
        ...

    async def metrics(self) -> dict[str, float]:
        """Its gauges and counters."""
        ...

    async def forward(self, path: str, fields: Mapping[str, Any]) -> bytes:
        """The answer to a call that generates nothing."""
        ...


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one feature: `off` is not offered and not needed, `fail` is needed."""

    feature: str
    finding: Finding
    found: str
    do: str = ""


class Prober:
    """Asks one engine about everything.

    Args:
        engine: the backend.
        model: the name it should serve.
    """

    def __init__(self, engine: Asked, model: str) -> None:
        self._engine = engine
        self._model = model

    async def run(self) -> list[Probe]:
        """All probes, in order; where the model is not there, only that."""
        first = await self._guarded("model", self._models)
        if first.finding == "fail":
            return [first]
        rest = [await self._guarded(feature, probe) for feature, probe in self._probes.items()]
        return [first, *rest]

    @property
    def _probes(self) -> dict[str, Callable[[], Awaitable[Probe]]]:
        return {
            "usage in stream": self._usage,
            "seed": self._seed,
            "cancel": self._cancel,
            "metrics": self._metrics,
            "logprobs": self._logprobs,
            "thinking budget": self._thinking,
            "beam search": self._beam_search,
            "pooling": self._pooling,
        }

    async def _guarded(self, feature: str, probe: Callable[[], Awaitable[Probe]]) -> Probe:
        """A probe's finding; an engine that refuses or falls silent is a finding as well."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await probe()
        except UpstreamError as error:
            if feature in OPTIONAL:
                return Probe(feature=feature, finding="off", found=f"refused: {str(error)[:100]}", do=OPTIONAL[feature])
            return Probe(feature=feature, finding="fail", found=str(error)[:200], do="start the engine, or correct its url and key")
        except TimeoutError:
            return Probe(feature=feature, finding="fail", found=f"no answer within {PROBE_TIMEOUT_S:g} s", do="look at the engine's log")

    async def _models(self) -> Probe:
        served = await self._engine.models()
        if self._model in served:
            return Probe(feature="model", finding="ok", found=f"serves {self._model}")
        found = f"serves {', '.join(served) or 'nothing'}, not {self._model}"
        return Probe(feature="model", finding="fail", found=found, do="set served_model to a name it serves")

    async def _usage(self) -> Probe:
        generation = await self._engine.generate(self._request(), Meter(SHORT_TOKENS))
        tokens, estimated = generation.attempt.ledger.generated, generation.attempt.estimated
        if tokens > 0 and not estimated:
            return Probe(feature="usage in stream", finding="ok", found=f"counted {tokens} tokens")
        do = "use a server that honours stream_options.include_usage: without it tokens are estimated"
        return Probe(feature="usage in stream", finding="fail", found="the stream has no usage", do=do)

    async def _seed(self) -> Probe:
        request = self._request(temperature=1.0, seed=7)
        texts = [(await self._engine.generate(request, Meter(SHORT_TOKENS))).completions[0].text for _ in range(2)]
        if texts[0] == texts[1]:
            return Probe(feature="seed", finding="ok", found="the same seed gives the same text")
        do = "nothing, unless answers must be reproducible: replays will differ from live runs"
        return Probe(feature="seed", finding="off", found="the same seed gives different texts", do=do)

    async def _cancel(self) -> Probe:
        """Leave a long call half way and wait until the engine is rid of it, in its own words."""
        stream = self._engine.stream(self._request(max_tokens=LONG_TOKENS, temperature=1.0), Meter(LONG_TOKENS))
        async with aclosing(cast(AsyncGenerator[bytes, None], stream)) as chunks:
            async for _ in chunks:
                break
        left_s = time.perf_counter()
        while (await self._engine.metrics()).get(RUNNING, 0.0) > 0:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.01)
        took_s = time.perf_counter() - left_s
        found = f"free after {1000 * took_s:.0f} ms"
        if took_s <= CANCEL_BOUND_S:
            return Probe(feature="cancel", finding="ok", found=found)
        do = "probe it again while nobody else uses it; if it stays, the engine goes on after its client has left"
        return Probe(feature="cancel", finding="fail", found=found, do=do)

    async def _metrics(self) -> Probe:
        gauges = await self._engine.metrics()
        missing = [name for name in (RUNNING, "num_requests_waiting", "kv_cache_usage_perc") if name not in gauges]
        if not missing:
            return Probe(feature="metrics", finding="ok", found=f"{len(gauges)} of vLLM's series")
        return Probe(feature="metrics", finding="off", found=f"no {', '.join(missing)}", do=OPTIONAL["metrics"])

    async def _logprobs(self) -> Probe:
        generation = await self._engine.generate(self._request(logprobs=True), Meter(SHORT_TOKENS))
        if generation.completions[0].mean_logprob is not None:
            return Probe(feature="logprobs", finding="ok", found=f"mean {generation.completions[0].mean_logprob:.2f}")
        return Probe(feature="logprobs", finding="off", found="none came", do=OPTIONAL["logprobs"])

    async def _thinking(self) -> Probe:
        request = self._request(max_tokens=SHORT_TOKENS + THINKING_TOKENS, thinking_tokens=THINKING_TOKENS)
        generation = await self._engine.generate(request, Meter(request.max_tokens))
        thought = generation.attempt.ledger.reasoning
        if thought == 0:
            return Probe(
                feature="thinking budget", finding="off", found="taken, but the model does not think", do="nothing: there is nothing to cap"
            )
        if thought > THINKING_TOKENS:
            found = f"ignored: {thought} tokens of thinking under a budget of {THINKING_TOKENS}"
            return Probe(feature="thinking budget", finding="off", found=found, do=OPTIONAL["thinking budget"])
        return Probe(feature="thinking budget", finding="ok", found=f"kept: {thought} of {THINKING_TOKENS} tokens")

    async def _beam_search(self) -> Probe:
        generation = await self._engine.generate(self._request(n=2, beam_search=True), Meter(2 * SHORT_TOKENS))
        texts = {completion.text for completion in generation.completions}
        if len(texts) == 2:
            return Probe(feature="beam search", finding="ok", found="two beams, two texts")
        return Probe(feature="beam search", finding="off", found=f"{len(texts)} text for two beams", do=OPTIONAL["beam search"])

    async def _pooling(self) -> Probe:
        await self._engine.forward("/pooling", {"model": self._model, "input": "What is 2 plus 3? 5."})
        return Probe(feature="pooling", finding="ok", found="answers /pooling")

    def _request(self, **fields: Any) -> GenerateRequest:
        return GenerateRequest(**{"model": self._model, "messages": PROMPT, "max_tokens": SHORT_TOKENS, **fields})


OPTIONAL = {
    "metrics": "without vLLM's metrics its load is seen only from here",
    "logprobs": "best-of-n cannot rank by likelihood on this engine",
    "thinking budget": "thinking is capped by max_tokens alone on this engine",
    "beam search": "strategies that search over tokens cannot run on this engine",
    "pooling": "serve a reward model with --runner pooling where one is wanted",
}
