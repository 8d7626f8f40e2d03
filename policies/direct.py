"""The one-call strategies: answer tersely, think step by step first, or do so after solved examples.

Sources: Wei et al., 2022 (chain of thought); Liu et al., 2022 (examples near the question).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import ClassVar

from msgspec.structs import replace

from rheostat.data.errors import ActionError
from rheostat.data.schema import Query
from rheostat.policies.arguments import one_of, whole
from rheostat.policies.asking import Ask, ask, share
from rheostat.policies.base import Context, Evidence, GenerateRequest
from rheostat.policies.evidence import candidate
from rheostat.policies.prompts import Messages, answer_only, at_length, briefly, step_by_step, with_examples
from rheostat.policies.thinking import Forcing, force

STYLES: Mapping[str, Ask] = {"plain": step_by_step, "short": briefly, "long": at_length}
EFFORTS = ("", "none", "minimal", "low", "medium", "high")
MAX_EXAMPLES = 64
MAX_THINK_TOKENS = 1_000_000
MAX_WAITS = 16


class SingleCall:
    """One call whose text is the answer, so a server may stream it straight through."""

    name: ClassVar[str]

    @property
    def single_call(self) -> bool:
        """Whether the strategy, as it was spelled, is one upstream call."""
        return True

    def how(self, query: Query, context: Context) -> Ask:
        """The way this strategy asks."""
        raise NotImplementedError

    def request(self, query: Query, context: Context) -> GenerateRequest:
        """The one request, at most what is left under the cap; greedy unless the client set a temperature."""
        max_tokens = share(query, context.left_tokens(), 1)
        request = ask(query, context, how=self.how(query, context), max_tokens=max_tokens, temperature=0.0)
        return replace(request, logprobs=True) if context.logprobs else request

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the evidence of the one call."""
        completion = (await context.call(self.request(query, context))).completions[0]
        found = candidate(completion, index=0, model=context.model, kind=context.kind, asked=query.sampling.extra)
        yield Evidence(candidates=(found,), chosen=0, why="the only sample", planned=1, last=True)


class Direct(SingleCall):
    """direct: the answer only."""

    name: ClassVar[str] = "direct"

    def how(self, query: Query, context: Context) -> Ask:  # noqa: ARG002
        """Asks for the answer and nothing else."""
        return answer_only


class Cot(SingleCall):
    """cot: step by step, then the answer.

    `style` is plain, short or long. `effort` is handed to engines whose template knows it. `think` is a budget of
    thinking tokens: native where the engine has such a budget, forced by two calls elsewhere, where `waits` sends a
    model that is done back to thinking.
    """

    name: ClassVar[str] = "cot"

    def __init__(self, style: str = "plain", effort: str = "", think: int = 0, waits: int = 0) -> None:
        self.style = one_of(self.name, "style", style, tuple(STYLES))
        self.effort = one_of(self.name, "effort", effort, EFFORTS)
        self.think = whole(self.name, "think", think, low=0, high=MAX_THINK_TOKENS)
        self.waits = whole(self.name, "waits", waits, low=0, high=MAX_WAITS)
        if waits and not think:
            raise ActionError(f"cot(waits={waits}) has no thinking to extend: give think, a number of tokens")

    @property
    def single_call(self) -> bool:
        """Whether no thinking is forced."""
        return self.think == 0

    def how(self, query: Query, context: Context) -> Ask:  # noqa: ARG002
        """Asks for steps in the style wanted."""
        return STYLES[self.style]

    def request(self, query: Query, context: Context) -> GenerateRequest:
        """The one request, with the effort unless the client named another."""
        request = super().request(query, context)
        return replace(request, extra={"reasoning_effort": self.effort, **request.extra}) if self.effort else request

    def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the evidence of the one call, or of every call of forced thinking."""
        if self.single_call:
            return super().run(query, context)
        return force(query, context, self.request(query, context), Forcing(self.think, self.waits))


class FewShot(SingleCall):
    """few_shot(k): a chain of thought behind the k solved examples of the task memory that are nearest to the question.

    They stand in the memory's own order, whichever is nearest: questions with the same examples share a prefix.
    """

    name: ClassVar[str] = "few_shot"

    def __init__(self, k: int = 4, style: str = "plain") -> None:
        self.k = whole(self.name, "k", k, high=MAX_EXAMPLES)
        self.style = one_of(self.name, "style", style, tuple(STYLES))

    def how(self, query: Query, context: Context) -> Ask:
        """Asks behind the examples, each asked in the same way.

        Raises:
            ActionError: there is no task memory.
        """
        memory = context.toolbox.memory
        if memory is None:
            raise ActionError(f"few_shot(k={self.k}) has no task memory to look into: build one with rheostat memory, and name it")
        examples = memory.nearest(query.text, self.k)

        def behind_examples(messages: Messages) -> Messages:
            return with_examples(messages, examples, STYLES[self.style])

        return behind_examples
