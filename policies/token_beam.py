"""The engine's own beam search over tokens. Knows nothing of how the engine does it but its price.

The engine generates one token a beam and step up to the cap, also after the best beams have ended: `width` beams of m
tokens cost 1 + width (m - 1), whatever the length of the answer (vLLM 0.32, generate/beam_search/online.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

from msgspec.structs import replace

from rheostat.data.schema import Query
from rheostat.policies.arguments import one_of, whole
from rheostat.policies.asking import ask, share
from rheostat.policies.base import Context, Evidence
from rheostat.policies.direct import STYLES
from rheostat.policies.evidence import candidate

MAX_WIDTH = 10  # the engine wants two log-probabilities a beam, and gives 20 unless it is started with more


class TokenBeam:
    """token_beam(width): the likeliest of `width` beams of a chain of thought."""

    name: ClassVar[str] = "token_beam"
    single_call: ClassVar[bool] = False

    def __init__(self, width: int = 4, style: str = "plain") -> None:
        self.width = whole(self.name, "width", width, high=MAX_WIDTH)
        self.style = one_of(self.name, "style", style, tuple(STYLES))

    async def run(self, query: Query, context: Context) -> AsyncIterator[Evidence]:
        """Yield all beams, best first as the engine ranks them."""
        left = context.left_tokens()
        width = min(self.width, max(1, left))
        request = ask(query, context, how=STYLES[self.style], max_tokens=share(query, left, width), temperature=0.0, n=width)
        generation = await context.call(replace(request, temperature=0.0, seed=None, stop=(), beam_search=True))
        found = tuple(
            candidate(each, index=each.index, model=context.model, kind=context.kind, asked=query.sampling.extra)
            for each in generation.completions
        )
        yield Evidence(candidates=found, chosen=0, why=f"likeliest of {len(found)} beams", planned=width, last=True, end="complete")
