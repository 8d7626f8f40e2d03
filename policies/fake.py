"""A model and a backend that are made up: seeded, scriptable, with a counter of their own.

Shipped, so that tests of strategies, serving and training patch nothing: what the counter says was generated must
equal what was booked.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt, AttemptStatus, message_text
from rheostat.policies.base import Booking, Completion, GenerateRequest, Generation, Said

FakeFault = Literal["ok", "refuse", "error", "break", "partial", "hang", "empty", "garbage", "endless", "late"]
"""What one call does: turn down the connection, fail before the first token, break half way, break with the first
sample complete, fall silent half way, say nothing, say nonsense, go on until the cap, answer late."""

Answers = Mapping[str, float]
DEFAULT_ANSWERS: Answers = {"7": 0.6, "8": 0.25, "": 0.15}


class Spoken(msgspec.Struct, frozen=True):
    """One made-up sample: one word is one token."""

    words: tuple[str, ...]
    finish_reason: str
    mean_logprob: float

    @property
    def text(self) -> str:
        """The words as a text."""
        return "".join(self.words)


class FakeModel:
    """Answers with given probabilities; the same question and seed give the same text, however calls are cut up.

    Args:
        answers: question text -> answer -> probability; a question is found where its text is part of the prompt.
            The empty answer is a text without one.
        default: for all other questions.
        tokens: shortest and longest text.
        say: answer -> the sentence that ends the text.
    """

    def __init__(
        self,
        answers: Mapping[str, Answers] | None = None,
        *,
        default: Answers = DEFAULT_ANSWERS,
        tokens: tuple[int, int] = (20, 60),
        say: Callable[[str], str] = "The answer is {}.".format,
    ) -> None:
        self._answers = answers or {}
        self._default = default
        self._tokens = tokens
        self._say = say

    def speak(self, question: str, seed: int, max_tokens: int, *, endless: bool = False) -> Spoken:
        """One sample, cut off at `max_tokens` words."""
        rng = random.Random(f"{question}|{seed}")
        answers = self._distribution(question)
        answer = rng.choices(list(answers), weights=list(answers.values()))[0]
        ending = [f" {word}" for word in (self._say(answer) if answer else "I am not sure").split()]
        length = max_tokens + 1 if endless else max(rng.randint(*self._tokens), len(ending))
        words = [*["hm", *[" hm"] * length][: length - len(ending)], *ending]
        spoken = tuple(words[:max_tokens])
        logprob = -rng.random() * (0.2 if answer == max(answers, key=answers.__getitem__) else 0.6)
        return Spoken(spoken, "stop" if len(words) <= max_tokens else "length", logprob)

    def _distribution(self, question: str) -> Answers:
        return next((answers for text, answers in self._answers.items() if text in question), self._default)


class FakeBackend:
    """A backend without a server.

    Args:
        name: what errors and attempts call it.
        model: what it says.
        faults: what its calls do, in turn and again from the start.
        latency_s: of every call; a `late` one takes ten times as long.
        thinks: whether it has a budget for thinking; without one it refuses such calls, as an engine does.

    `generated_tokens` counts everything generated, as an engine does, and `requests` keeps what was asked.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        model: FakeModel | None = None,
        faults: Sequence[FakeFault] = ("ok",),
        latency_s: float = 0.0,
        thinks: bool = False,
    ) -> None:
        self.name = name
        self.generated_tokens = 0
        self.requests: list[GenerateRequest] = []
        self._model = model or FakeModel()
        self._faults = faults
        self._latency_s = latency_s
        self._thinks = thinks

    async def generate(self, request: GenerateRequest, book: Booking) -> Generation:
        """Run one call; see `base.Backend`."""
        if request.thinking_tokens is not None and not self._thinks:
            raise UpstreamError(f"{self.name} has no budget for thinking", backend=self.name, status=400)
        fault = self._faults[len(self.requests) % len(self._faults)]
        self.requests.append(request)
        if fault == "refuse":
            raise UpstreamError(f"{self.name} cannot be reached", backend=self.name, retryable=True)
        call = _FakeCall(self, request, book)
        try:
            async with asyncio.timeout(request.timeout_s):
                await self._pause(fault)
                return await call.run(fault, self._model)
        except TimeoutError as error:
            return call.broken(f"{self.name} did not answer in time", error)
        except asyncio.CancelledError:
            call.book("cancelled", 0, "the caller gave up")
            raise

    async def stream(self, request: GenerateRequest, book: Booking, *, said: Said | None = None) -> AsyncIterator[bytes]:
        """One call as the bytes of an event stream, all samples at once; its samples are in `said` in the end."""
        generation = await self.generate(request, book)
        for chunk in as_events(generation):
            yield chunk
        if said is not None:
            said.completions = generation.completions

    async def close(self) -> None:
        """Nothing to release."""

    async def _pause(self, fault: FakeFault) -> None:
        await asyncio.sleep(self._latency_s * (10 if fault == "late" else 1))


def as_events(generation: Generation) -> list[bytes]:
    """A generation as vLLM streams it: a chunk a sample with its own usage, then the total, then the end."""
    ledger = generation.attempt.ledger
    chunks: list[dict[str, Any]] = [
        {
            "choices": [{"index": c.index, "delta": {"role": "assistant", "content": c.text}, "finish_reason": c.finish_reason}],
            "usage": {"prompt_tokens": ledger.prompt, "completion_tokens": c.completion_tokens},
        }
        for c in generation.completions
    ]
    chunks.append({"choices": [], "usage": {"prompt_tokens": ledger.prompt, "completion_tokens": ledger.generated}})
    return [*(b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]


def question_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last message, and the number of prompt tokens is its words'."""
    return message_text(dict(messages[-1])) if messages else ""


class _FakeCall:
    """One call in progress: what was generated so far, and its booking."""

    def __init__(self, backend: FakeBackend, request: GenerateRequest, book: Booking) -> None:
        self._backend = backend
        self._request = request
        self._book = book
        self._started_s = time.perf_counter()
        self._completions: list[Completion] = []
        self._tokens = 0

    async def run(self, fault: FakeFault, model: FakeModel) -> Generation:
        if fault == "error":
            return self.broken(f"{self._backend.name} answered 500: out of order")
        for index in range(self._request.n):
            spoken = self._speak(model, index, fault)
            if fault in ("break", "hang") or (fault == "partial" and index > 0):
                return await self._stop_inside(spoken, fault)
            self._generate(len(spoken.words))
            self._completions.append(self._completion(index, spoken, fault))
        return self.ended("ok")

    def ended(self, status: AttemptStatus, error: str | None = None) -> Generation:
        used = sum(completion.completion_tokens for completion in self._completions)
        return Generation(completions=tuple(self._completions), attempt=self.book(status, used, error))

    def broken(self, error: str, cause: BaseException | None = None) -> Generation:
        generation = self.ended("failed", error)
        if not generation.completions:
            raise UpstreamError(error, backend=self._backend.name, retryable=True) from cause
        return generation

    def book(self, status: AttemptStatus, used: int, error: str | None) -> Attempt:
        attempt = Attempt(
            model=self._request.model,
            kind="completion",
            status=status,
            ledger=Ledger(calls=1, prompt=len(question_of(self._request.messages).split()), completion=used, wasted=self._tokens - used),
            latency_s=time.perf_counter() - self._started_s,
            n=self._request.n,
            error=error,
        )
        self._book.book(attempt)
        return attempt

    async def _stop_inside(self, spoken: Spoken, fault: FakeFault) -> Generation:
        self._generate(len(spoken.words) // 2)
        if fault == "hang":
            await asyncio.Event().wait()
        return self.broken(f"{self._backend.name} broke the connection")

    def _speak(self, model: FakeModel, index: int, fault: FakeFault) -> Spoken:
        # Greedy decoding does not see the seed.
        seed = (self._request.seed or 0) + index if self._request.temperature > 0 else 0
        asked = question_of(self._request.messages) + self._request.prefill
        return model.speak(asked, seed, self._request.max_tokens, endless=fault == "endless")

    def _generate(self, tokens: int) -> None:
        self._tokens += tokens
        self._backend.generated_tokens += tokens

    def _completion(self, index: int, spoken: Spoken, fault: FakeFault) -> Completion:
        said = {"empty": "", "garbage": "\x00\ufffd answer is is NaN {{}}"}.get(fault, spoken.text)
        return Completion(
            index=index,
            text=said,
            completion_tokens=len(spoken.words),
            finish_reason=spoken.finish_reason,
            mean_logprob=spoken.mean_logprob if self._request.logprobs else None,
        )
