"""The vocabulary of strategies: what they are given, what they yield.

A strategy is an async generator over a query. Generation is passed in; spending goes through a meter that cannot be
overspent; Evidence is yielded after every wave, and whoever consumes it decides whether there is a next wave. Knows
nothing of HTTP, routers or logs. The protocol follows the solvers of inspect_ai.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from rheostat.data.errors import BudgetError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import AnswerKind, Attempt, AttemptKind, Query
from rheostat.policies.chunks import TokenLogprob


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream call: `n` samples of at most `max_tokens` generated tokens each.

    With `timeout_s` the backend stops there and gives the samples that are complete, if there are any. `prefill` is the
    beginning of the reply, which the model goes on with; completions hold only what it added. With `beam_search` the
    `n` samples are the best beams of one search over tokens. `thinking_tokens` caps native thinking: an engine that
    cannot do so refuses with status 400, before anything is generated.
    """

    model: str
    messages: tuple[dict[str, Any], ...]
    max_tokens: int
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    timeout_s: float | None = None
    prefill: str = ""
    beam_search: bool = False
    thinking_tokens: int | None = None
    extra: dict[str, Any] = {}


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One sampled text. `completion_tokens` counts what was generated for it, reasoning included."""

    index: int
    text: str
    completion_tokens: int
    finish_reason: str = "stop"
    mean_logprob: float | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning_text: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """The completions of one call, in submission order, and the call as booked."""

    completions: tuple[Completion, ...]
    attempt: Attempt


class Backend(Protocol):
    """A model server. Every call that reached it is booked through `book`, also when it fails or is cancelled."""

    name: str

    async def generate(self, request: GenerateRequest, book: Booking) -> Generation:
        """Run one call. Where it broke or timed out after some samples were complete, those are given.

        Raises:
            UpstreamError: the backend refused, failed or fell silent; what it had generated is booked as wasted.
            asyncio.CancelledError: the caller gave up; the upstream request is closed and booked as wasted.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Said:
    """What a streamed call said, once all its bytes were given: its complete samples, and the engine's name for it."""

    def __init__(self) -> None:
        self.completions: tuple[Completion, ...] = ()
        self.call_id: str | None = None


class Booking(Protocol):
    """Where attempts are booked, once each."""

    def book(self, attempt: Attempt) -> None:
        """Add one attempt."""
        ...


class Meter:
    """The token cap of one query: reserve before a call, settle after it; never over the cap.

    Reservations hold the worst case (`n * max_tokens`), so parallel calls together stay under the cap.
    """

    def __init__(self, cap_tokens: int) -> None:
        self.cap_tokens = cap_tokens
        self.attempts: list[Attempt] = []
        self.ledger = Ledger()
        self._reserved = 0

    @property
    def left_tokens(self) -> int:
        """Generated tokens that may still be reserved."""
        return self.cap_tokens - self.ledger.generated - self._reserved

    def reserve(self, n_tokens: int) -> None:
        """Set tokens aside for a call.

        Raises:
            BudgetError: fewer than `n_tokens` are left.
        """
        if n_tokens > self.left_tokens:
            raise BudgetError(f"a call of up to {n_tokens} tokens does not fit: {self.left_tokens} of {self.cap_tokens} left")
        self._reserved += n_tokens

    def release(self, n_tokens: int) -> None:
        """Give a reservation back once its call is booked."""
        self._reserved -= n_tokens

    def book(self, attempt: Attempt) -> None:
        """Add what a call really spent."""
        self.attempts.append(attempt)
        self.ledger = self.ledger + attempt.ledger


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One sampled answer as evidence: `answer` is None where nothing could be parsed (a cost, never a vote).

    `score` is a scorer's verdict; `step_scores` are the raw scores of its steps, where it was made step by step.
    """

    index: int
    model: str
    text: str
    answer: str | None
    tokens: int
    mean_logprob: float | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    score: float | None = None
    step_scores: tuple[float | None, ...] = ()
    finish_reason: str = "stop"
    tool_calls: tuple[dict[str, Any], ...] = ()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a search over steps of reasoning; `parent` is the index of another, -1 for a first step."""

    index: int
    parent: int
    text: str
    score: float | None = None
    state: Literal["open", "kept", "dropped", "ended"] = "open"
    visits: int = 0


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known after a wave: all candidates so far in submission order, and the one a strategy would give now.

    `planned` is the number of samples (K, rounds, simulations) the shape allows; `last` is true when the strategy has
    nothing more to do, whatever the rule says, and `end` then tells why in a word, where it is not plain. `steps` is
    the tree of a search.
    """

    candidates: tuple[Candidate, ...]
    chosen: int
    why: str
    planned: int
    last: bool = False
    end: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def choice(self) -> Candidate:
        """The candidate whose answer would be given now."""
        return self.candidates[self.chosen]


class Example(NamedTuple):
    """A solved question, as it is shown to a model."""

    question: str
    reply: str


class Memory(Protocol):
    """Solved examples that can be looked up by meaning."""

    def nearest(self, question: str, k: int) -> tuple[Example, ...]:
        """At most `k` examples, in the one order they have in the memory, so that prompts share their beginnings."""
        ...


class Embed(Protocol):
    """Turns texts into vectors."""

    def __call__(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """(n, d) rows of norm one."""
        ...


class Toolbox(msgspec.Struct, frozen=True, kw_only=True):
    """What strategies may use besides models: scorers by name, solved examples, an embedding of texts."""

    scorers: dict[str, Scorer] = {}
    memory: Memory | None = None
    embed: Embed | None = None


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy is given besides the query: the model, the means to call it, and how to read answers.

    `scorer` is the verifier of this very query, `logprobs` asks for log-probabilities where they cost nothing else.
    """

    model: str
    call: Call
    left_tokens: LeftTokens
    kind: AnswerKind
    seed: int
    waves: tuple[int, ...] = (2, 2, 4)
    scorer: Scorer | None = None
    toolbox: Toolbox = Toolbox()
    logprobs: bool = False


class Call(Protocol):
    """A metered upstream call: reserves, runs, books, settles."""

    async def __call__(self, request: GenerateRequest, kind: AttemptKind = "completion") -> Generation:
        """Run one call.

        Raises:
            BudgetError: the reservation does not fit.
            UpstreamError: the backend failed.
        """
        ...

    def book(self, attempt: Attempt) -> None:
        """Book a call that a reward model's own client made: it reads tokens and generates none."""
        ...


class LeftTokens(Protocol):
    """How many generated tokens may still be reserved."""

    def __call__(self) -> int:
        """Tokens left under the cap."""
        ...


class Scorer(Protocol):
    """Scores an answer to a query in [0, 1]: a verifier or a reward model, with its own calls booked as verifier.

    One with `reads_reply = True` judges the whole text, and is shown it also where no answer could be read in it.
    """

    name: str

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:
        """The score, or None for an abstention."""
        ...


class GroupScorer(Scorer, Protocol):
    """A scorer that is asked about several candidates of a query at once.

    It is shown each distinct answer once, as it comes; one with `sees_all = True` all candidates after every wave. One
    with a method `for_query` gives the scorer of one query there, which may remember what it was shown.
    """

    async def score_all(self, query: Query, candidates: Sequence[Candidate], call: Call) -> tuple[float | None, ...]:
        """One score or abstention for each candidate, in their order."""
        ...


class StepScorer(Scorer, Protocol):
    """A process reward model: scores the steps of an answer, finished or not."""

    async def steps(self, query: Query, steps: Sequence[str], call: Call) -> tuple[float, ...] | None:
        """The chance in [0, 1], for every step, that it and all before it are right; None for an abstention."""
        ...


class Comparer(Protocol):
    """Compares two candidates, its own calls booked as verifier."""

    name: str

    async def compare(self, query: Query, first: Candidate, second: Candidate, call: Call) -> float | None:
        """1.0 where the first is better, 0.0 where the second is, 0.5 for a tie, None for an abstention."""
        ...


class Strategy(Protocol):
    """How compute is spent on one query. Rebuilt from its spelling: the constructor takes the shape's arguments."""

    name: ClassVar[str]

    def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield evidence after every wave until nothing more can be done under the cap."""
        ...


class StopRule(Protocol):
    """Evidence in, reason to stop out; None means go on."""

    def __call__(self, evidence: Evidence) -> str | None:
        """Why to stop now, or None."""
        ...
