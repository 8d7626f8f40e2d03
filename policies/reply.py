"""What one streamed chat completion has said so far: texts by sample, tokens, usage. Knows no sockets.

The usage of vLLM's `continuous_usage_stats` counts the tokens of the chunk's own choice; the last chunk, without
choices, has the total. So the sum over choices is what a broken or cancelled stream is billed for.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rheostat.data.errors import UpstreamError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt, AttemptStatus
from rheostat.policies.base import Completion, GenerateRequest
from rheostat.policies.chunks import Choice, Chunk, Function, Logprobs, TokenLogprob, ToolCall, Usage, decode_chunk, decode_chunks
from rheostat.policies.sse import Event, SseParser

DONE = b"[DONE]"
ABORTED = "abort"  # the engine's finish reason of a sample that was stopped from outside


class Sample:
    """One sample as it grows."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.tool_calls: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None
        self.counted = 0  # by the server
        self.chunks = 0
        self.reasoning_tokens = 0
        self.logprob_sum = 0.0
        self.logprobs = 0
        self.token_logprobs: list[TokenLogprob] = []

    @property
    def tokens(self) -> int:
        """Tokens generated for it, at least: without the server's count, one a chunk or a log-probability."""
        return self.counted or max(self.chunks, self.logprobs)

    def add(self, choice: Choice) -> None:
        """Take in what a chunk says of this sample."""
        delta = choice.delta
        said, thought = delta.content or choice.text, delta.reasoning or delta.reasoning_content
        if said or thought or delta.tool_calls:
            self.chunks += 1
        if said:
            self.text.append(said)
        if thought:
            self.reasoning.append(thought)
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        for piece in delta.tool_calls or ():
            self._add_tool_call(piece)
        if choice.logprobs is not None:
            self._add_logprobs(choice.logprobs)

    def _add_logprobs(self, given: Logprobs) -> None:
        tokens = given.content or []
        plain = [each for each in given.token_logprobs or [] if each is not None]
        self.token_logprobs += tokens
        self.logprob_sum += sum(token.logprob for token in tokens) + sum(plain)
        self.logprobs += len(tokens) + len(plain)

    def count(self, usage: Usage) -> None:
        """Take in the server's count for this sample."""
        self.counted = max(self.counted, usage.completion_tokens or 0)
        details = usage.completion_tokens_details
        self.reasoning_tokens = max(self.reasoning_tokens, (details and details.reasoning_tokens) or 0)

    def completion(self, index: int) -> Completion:
        """The sample as a finished text."""
        return Completion(
            index=index,
            text="".join(self.text),
            completion_tokens=self.tokens,
            finish_reason=self.finish_reason or "",
            mean_logprob=self.logprob_sum / self.logprobs if self.logprobs else None,
            logprobs=tuple(self.token_logprobs),
            reasoning_text="".join(self.reasoning) or None,
            tool_calls=tuple(call for _, call in sorted(self.tool_calls.items())),
        )

    def _add_tool_call(self, piece: ToolCall) -> None:
        call = self.tool_calls.setdefault(piece.index, {"id": piece.id, "type": "function", "function": {"name": "", "arguments": ""}})
        function = piece.function or Function()
        call["id"] = call["id"] or piece.id
        call["function"]["name"] += function.name or ""
        call["function"]["arguments"] += function.arguments or ""


class Reply:
    """Feeds on the bytes of one streamed call; books it at the end.

    `done` tells that the stream came to its end, `call_id` is the server's name for the call.

    Args:
        request: what was asked.
        backend: the name of the server, for errors.
    """

    def __init__(self, request: GenerateRequest, backend: str) -> None:
        self.done = False
        self.call_id: str | None = None
        self._request = request
        self._backend = backend
        self._events = SseParser(backend)
        self._samples: dict[int, Sample] = {}
        self._prompt: Usage | None = None
        self._total: Usage | None = None

    def feed(self, chunk: bytes) -> None:
        """Take in bytes as they came.

        Raises:
            UpstreamError: they are no event stream of chat completion chunks, or the server reports an error in it.
        """
        plain = self._events.plain(chunk)
        if plain is not None and self._take(plain):
            return
        for event in self._events.feed(chunk):
            self._event(event)

    @property
    def engine_ids(self) -> list[str]:
        """The names under which the engine runs the call: completions number their prompts."""
        return [self.call_id, f"{self.call_id}-0"] if self.call_id else []

    @property
    def completions(self) -> tuple[Completion, ...]:
        """The samples that are complete, in the order of the request."""
        return tuple(sample.completion(index) for index, sample in self._finished())

    def attempt(self, status: AttemptStatus, *, latency_s: float, error: str | None = None, refused: bool = False) -> Attempt:
        """The call as it is booked.

        Of a failed call the complete samples count as completion, since they are used, and the others as wasted. A
        cancelled call is wasted altogether. Without usage from the server, or without the end of the stream, the count
        is an estimate, unless the server refused the call before it ran.
        """
        finished = self._tokens if status == "ok" else sum(s.tokens for _, s in self._finished()) if status == "failed" else 0
        return Attempt(
            model=self._request.model,
            kind="completion",
            status=status,
            ledger=Ledger(calls=1) if refused else self._ledger(min(finished, self._tokens)),
            latency_s=latency_s,
            n=self._request.n,
            estimated=(self._is_estimate or not self.done) and not refused,
            error=error,
        )

    @property
    def _limit(self) -> int:
        return self._request.n * self._request.max_tokens

    @property
    def _seen(self) -> int:
        """Tokens generated, as far as the stream tells; of a beam search what its steps take, since usage leaves out most beams."""
        if self._request.beam_search:
            return 1 + self._request.n * (self._request.max_tokens - 1)
        total = self._total.completion_tokens if self._total else None
        return sum(s.tokens for s in self._samples.values()) if total is None else total

    @property
    def _tokens(self) -> int:
        """Tokens to book: no engine goes over the limit it was given, so a count that does is garbage and held to it."""
        return min(max(0, self._seen), self._limit)

    @property
    def _is_estimate(self) -> bool:
        if self._request.beam_search:
            return False
        uncounted = self._total is None and not all(s.counted for s in self._samples.values())
        return self._prompt is None or uncounted or self._seen > self._limit

    def _ledger(self, completion: int) -> Ledger:
        prompt = self._prompt or Usage()
        cached = (prompt.prompt_tokens_details and prompt.prompt_tokens_details.cached_tokens) or 0
        prompt_tokens = max(0, prompt.prompt_tokens)
        return Ledger(
            calls=1,
            prompt=prompt_tokens,
            cached_prompt=min(max(0, cached), prompt_tokens),
            completion=completion,
            reasoning=min(self._reasoning_tokens, completion),
            wasted=self._tokens - completion,
        )

    @property
    def _reasoning_tokens(self) -> int:
        details = self._total.completion_tokens_details if self._total else None
        if details and details.reasoning_tokens:
            return details.reasoning_tokens
        return sum(s.reasoning_tokens for s in self._samples.values())

    def _finished(self) -> list[tuple[int, Sample]]:
        return [(index, sample) for index, sample in sorted(self._samples.items()) if sample.finish_reason not in (None, ABORTED)]

    def _take(self, events: list[bytes]) -> bool:
        """Read events together, in half the time; False, with none of them read, where not all are chunks before an end mark."""
        done = events[-1] == DONE
        try:
            chunks = decode_chunks(b"[%b]" % b",".join(events[:-1] if done else events))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if len(chunks) + done != len(events) or any(chunk.error is not None for chunk in chunks):
            return False
        for chunk in chunks:
            self._chunk(chunk)
        self.done = self.done or done
        return True

    def _event(self, event: Event) -> None:
        if event.data.strip() == DONE:
            self.done = True
            return
        try:
            chunk = decode_chunk(event.data)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise self._failed(f"sent an event that is no chat completion chunk ({error})") from error
        if chunk.error is not None or event.name == "error":
            raise self._failed(f"failed in the stream: {_message(chunk.error)}", status=_refused(chunk.error))
        self._chunk(chunk)

    def _chunk(self, chunk: Chunk) -> None:
        self.call_id = self.call_id or chunk.id
        for choice in chunk.choices:
            (self._samples.get(choice.index) or self._begun(choice.index)).add(choice)
        if chunk.usage is not None:
            self._count(chunk.usage, chunk.choices)

    def _begun(self, index: int) -> Sample:
        if not 0 <= index < self._request.n:
            raise self._failed(f"sent a sample {index} of {self._request.n} asked for")
        self._samples[index] = Sample()
        return self._samples[index]

    def _count(self, usage: Usage, choices: list[Choice]) -> None:
        self._prompt = usage
        if not choices:
            self._total = usage
            if self._request.n == 1 and 0 in self._samples:
                self._samples[0].count(usage)
        elif len(choices) == 1:
            self._samples[choices[0].index].count(usage)

    def _failed(self, what: str, *, status: int | None = None) -> UpstreamError:
        return UpstreamError(f"{self._backend} {what}", backend=self._backend, status=status, retryable=status is None)


def _refused(error: Any) -> int | None:
    """The status of a refusal that came too late for the response's own: vLLM checks some fields once the stream is open."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 500 else None


def _message(error: Any) -> str:
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)
