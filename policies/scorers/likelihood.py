"""How likely a model finds what another one wrote: a reward that nobody had to train.

The model only reads, which on an engine costs a fraction of writing; a larger one that reads tells right chains of a
smaller one from wrong ones. Knows no strategy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from rheostat.data.schema import Query
from rheostat.policies.base import Call, Candidate
from rheostat.policies.scorers.pooling import PoolingClient, TokenLogprob
from rheostat.policies.scorers.rendering import POCKET_FORMAT, StepFormat


class Likelihood:
    """The probability a token that a model gives a chain of thought: the geometric mean over its tokens, in [0, 1].

    A mean, since the product of a long chain's tokens is nought in floating point.

    Args:
        client: an engine that generates.
        steps: what stands round the question in its prompts; steps need no mark.
    """

    name = "likelihood"

    def __init__(self, client: PoolingClient, *, steps: StepFormat = POCKET_FORMAT) -> None:
        self._client = client
        self._format = steps

    async def steps(self, query: Query, steps: Sequence[str], call: Call) -> tuple[float, ...] | None:
        """How likely a token is, up to the end of each step, delimiters as written; None where the engine told of none.

        Raises:
            UpstreamError: the server refused, failed or fell silent.
        """
        if not steps:
            return ()
        before = self._format.render(query.text, ())
        tokens = await self._client.token_logprobs(before + "".join(steps), call)
        told = [_mean(tokens, len(before), end) for end in accumulate(map(len, steps), initial=len(before))][1:]
        known = [each for each in told if each is not None]
        return tuple(known) if len(known) == len(steps) else None

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:
        """How likely a token of the text is; an abstention where it has none; errors as above."""
        found = await self.steps(query, (candidate.text,), call) if candidate.text else None
        return found[-1] if found else None


def _mean(tokens: Sequence[TokenLogprob], start: int, end: int) -> float | None:
    """The geometric mean over the tokens that begin in [start, end)."""
    told = [token.logprob for token in tokens if token.logprob is not None and start <= token.offset < end]
    return math.exp(min(0.0, math.fsum(told) / len(told))) if told else None
