"""Reasoning step by step, for searches: paths of steps, how one is gone on with, and the tree that was seen.

A path is the beginning of a reply; a step ends at a delimiter or at a number of tokens, whichever comes first, so that
a model that ignores delimiters cannot run away. Knows neither which paths are kept nor why.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from msgspec.structs import replace as with_fields

from rheostat.data.schema import Query
from rheostat.policies.arguments import one_of, spread, whole
from rheostat.policies.asking import ask
from rheostat.policies.base import Candidate, Completion, Context, Generation, Step
from rheostat.policies.evidence import read_answer
from rheostat.policies.prompts import step_by_step
from rheostat.policies.together import succeeded

MAX_STEP_TOKENS = 8192
MAX_DEPTH = 64
SPLITS: Mapping[str, tuple[str, ...]] = {"line": ("\n",), "paragraph": ("\n\n",), "clause": ("; ", ". ", "\n")}
# The delimiter belongs to the step: the next one goes on behind it.
KEEP_DELIMITER: dict[str, Any] = {"include_stop_str_in_output": True}


@dataclass(frozen=True, slots=True)
class Path:
    """The beginning of a reply: its steps, what they scored, and whether the model has ended it.

    Attributes:
        node: index of the last step in the tree, -1 for the empty path.
        scores: one raw score a step; None where nothing was said of it.
        logprob: summed over the tokens, NaN where not given.
        subtree: which of several independent searches it belongs to.
    """

    node: int = -1
    steps: tuple[str, ...] = ()
    scores: tuple[float | None, ...] = ()
    tokens: int = 0
    logprob: float = 0.0
    ended: bool = False
    finish_reason: str = "stop"
    subtree: int = 0

    @property
    def text(self) -> str:
        """The reply so far."""
        return "".join(self.steps)

    @property
    def mean_logprob(self) -> float | None:
        """Per token; None where not given."""
        return None if math.isnan(self.logprob) or not self.tokens else self.logprob / self.tokens


class Tree:
    """All steps that were seen, for the evidence."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def add(self, parent: int, text: str, *, ended: bool) -> int:
        """The index of a new step."""
        self._steps.append(Step(index=len(self._steps), parent=parent, text=text, state="ended" if ended else "open"))
        return len(self._steps) - 1

    def mark(self, node: int, **fields: Any) -> None:
        """Set fields of a step; the empty path has none."""
        if node >= 0:
            self._steps[node] = with_fields(self._steps[node], **fields)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in the order in which they came."""
        return tuple(self._steps)


class Wish(NamedTuple):
    """A path and how many continuations of it are wanted."""

    path: Path
    n: int


class Cut(NamedTuple):
    """How steps are drawn: they end at the delimiters of `split`, a name of `SPLITS`, or after `step_tokens`."""

    split: str
    step_tokens: int
    temperature: float

    @classmethod
    def checked(cls, strategy: str, *, split: str, step_tokens: int, temperature: float) -> Cut:
        """The arguments of a strategy.

        Raises:
            ActionError: one of them is unknown or out of range.
        """
        return cls(
            one_of(strategy, "split", split, tuple(SPLITS)),
            whole(strategy, "step_tokens", step_tokens, high=MAX_STEP_TOKENS),
            spread(strategy, temperature),
        )

    @property
    def delimiters(self) -> tuple[str, ...]:
        """What ends a step."""
        return SPLITS[self.split]


class Stepper:
    """Goes on with paths; numbers its samples, so that the same seed gives the same tree."""

    def __init__(self, query: Query, context: Context, cut: Cut) -> None:
        self.tree = Tree()
        self._query = query
        self._context = context
        self._cut = cut
        self._drawn = 0

    async def expand(self, wishes: Sequence[Wish], *, within: int | None = None) -> list[Path]:
        """One more step for every wish, all at once; fewer where the cap, or `within`, leaves less than a token for each.

        Raises:
            BudgetError: nothing is left under the cap.
            UpstreamError: every call failed.
        """
        left = self._context.left_tokens() if within is None else min(within, self._context.left_tokens())
        wishes = _affordable(wishes, left)
        room = min(self._room(wish.path) for wish in wishes)
        cap = max(1, min(self._cut.step_tokens, room, left // sum(wish.n for wish in wishes)))
        calls = [self._call(wish.path, wish.n, max_tokens=cap, delimiters=self._cut.delimiters) for wish in wishes]
        generations = await succeeded(calls)
        return [
            self._child(wish.path, completion)
            for wish, generation in zip(wishes, generations, strict=True)
            if generation is not None
            for completion in generation.completions
        ]

    async def finish(self, path: Path, *, max_tokens: int) -> Path:
        """The path gone on with to its end in one call, at most `max_tokens`; one that has ended is returned as it is.

        Raises:
            BudgetError: the call does not fit under the cap.
            UpstreamError: it failed.
        """
        if path.ended:
            return path
        completion = (await self._call(path, 1, max_tokens=min(max_tokens, self._room(path)), delimiters=())).completions[0]
        return replace(_longer(path, completion), ended=True, node=path.node)

    def _room(self, path: Path) -> int:
        """Tokens by which the reply may still grow, where the client has bounded it."""
        most = self._query.sampling.max_tokens
        return MAX_STEP_TOKENS if most is None else most - path.tokens

    def _call(self, path: Path, n: int, *, max_tokens: int, delimiters: tuple[str, ...]) -> Coroutine[Any, Any, Generation]:
        request = ask(
            self._query, self._context, how=step_by_step, max_tokens=max_tokens, temperature=self._cut.temperature, n=n, first=self._drawn
        )  # fmt: skip
        self._drawn += n
        extra = {**request.extra, **KEEP_DELIMITER} if delimiters else request.extra
        asked = with_fields(request, prefill=path.text, stop=(*request.stop, *delimiters), logprobs=True, extra=extra)
        return self._context.call(asked)

    def _child(self, path: Path, completion: Completion) -> Path:
        at_delimiter = completion.text.endswith(self._cut.delimiters)
        longer = _longer(path, completion)
        by_itself = not completion.text or (completion.finish_reason == "stop" and not at_delimiter)
        ended = by_itself or self._room(longer) < 1
        return replace(longer, ended=ended, node=self.tree.add(path.node, longer.steps[-1], ended=ended))


def as_candidate(path: Path, query: Query, context: Context, *, index: int, score: float | None = None, read: bool = True) -> Candidate:
    """A path as evidence; one that is not to be `read` yet has no answer, and so no vote."""
    completion = Completion(index=0, text=path.text, completion_tokens=path.tokens)
    return Candidate(
        index=index,
        model=context.model,
        text=path.text,
        answer=read_answer(completion, context.kind, query.sampling.extra) if read else None,
        tokens=path.tokens,
        mean_logprob=path.mean_logprob,
        score=score,
        step_scores=path.scores,
        finish_reason=path.finish_reason,
    )


def _affordable(wishes: Sequence[Wish], left_tokens: int) -> list[Wish]:
    """As many continuations as there are tokens, the first ones; at least one, for the meter to refuse."""
    kept, room = [], max(1, left_tokens)
    for wish in wishes:
        n = min(wish.n, room)
        if n:
            kept.append(Wish(wish.path, n))
        room -= n
    return kept


def _longer(path: Path, completion: Completion) -> Path:
    """The path with one more step; spaces at its end are left to the next one, since tokens begin with theirs."""
    mean = math.nan if completion.mean_logprob is None else completion.mean_logprob
    return replace(
        path,
        steps=(*path.steps, completion.text.rstrip(" ")),
        tokens=path.tokens + completion.completion_tokens,
        logprob=path.logprob + mean * completion.completion_tokens if completion.completion_tokens else path.logprob,
        finish_reason=completion.finish_reason,
    )
