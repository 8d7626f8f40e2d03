"""The one-call strategies: answer tersely, or think step by step first. Source of the latter: Wei et al., 2022."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

from rheostat.data.schema import Query
from rheostat.policies.asking import Ask, ask, share
from rheostat.policies.base import Context, Evidence, GenerateRequest
from rheostat.policies.evidence import candidate
from rheostat.policies.prompts import answer_only, step_by_step


class SingleCall:
    """One call whose text is the answer, so a server may stream it straight through."""

    name: ClassVar[str]
    single_call: ClassVar[bool] = True
    how: ClassVar[Ask]

    def request(self, query: Query, context: Context) -> GenerateRequest:
        """The one request, at most what is left under the cap; greedy unless the client set a temperature."""
        max_tokens = share(query, context.left_tokens(), 1)
        return ask(query, context, how=type(self).how, max_tokens=max_tokens, temperature=0.0)

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield the evidence of the one call."""
        generation = await context.call(self.request(query, context))
        found = tuple(candidate(c, index=0, model=context.model, kind=context.kind) for c in generation.completions[:1])
        yield Evidence(candidates=found, chosen=0, why="the only sample", planned=1, last=True)


class Direct(SingleCall):
    """direct: the answer only."""

    name: ClassVar[str] = "direct"
    how: ClassVar[Ask] = answer_only


class Cot(SingleCall):
    """cot: step by step, then the answer."""

    name: ClassVar[str] = "cot"
    how: ClassVar[Ask] = step_by_step
