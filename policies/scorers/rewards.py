"""Reward models as scorers: of steps (PRM), of whole answers (ORM), of the fit of question and answer.

Sources: Cobbe et al. 2021 (outcome rewards); Lightman et al. 2023 (process rewards).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rheostat.data.errors import ConfigError
from rheostat.data.schema import Query
from rheostat.data.steps import split_steps
from rheostat.policies.base import Call, Candidate
from rheostat.policies.process import AGGREGATIONS
from rheostat.policies.scorers.pooling import PoolingClient
from rheostat.policies.scorers.rendering import POCKET_FORMAT, StepFormat


class ProcessReward:
    """A process reward model behind `/pooling`, whose pooler gives the classes at the marks behind steps.

    Args:
        client: the server; its model classifies tokens into wrong and right.
        steps: how it was trained to see steps.
        aggregate: what the score of an answer is: that of its last step, the least, or the product.

    Raises:
        ConfigError: there is no such aggregate.
    """

    name = "prm"

    def __init__(self, client: PoolingClient, *, steps: StepFormat = POCKET_FORMAT, aggregate: str = "last") -> None:
        if aggregate not in AGGREGATIONS:
            raise ConfigError(f"a process reward cannot be aggregated by {aggregate!r}: use one of {', '.join(AGGREGATIONS)}")
        self._client = client
        self._format = steps
        self._aggregate = AGGREGATIONS[aggregate]

    async def steps(self, query: Query, steps: Sequence[str], call: Call) -> tuple[float, ...] | None:
        """The chance that each step and all before it are right; see `base.StepScorer`.

        Raises:
            UpstreamError: the server refused, failed or fell silent.
        """
        bare = [split[-1] if len(split := split_steps(step)) == 1 else step.strip() for step in steps]
        if not bare:
            return ()
        rows = await self._client.token_classes(self._format.render(query.text, bare), call)
        scores = tuple(score for row in rows if (score := _probability(row, -1)) is not None)
        # A step that holds the mark, or a prompt that was cut, gives another number: then it is unclear which is whose.
        return scores if len(scores) == len(steps) else None

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:
        """The aggregate over the steps of the text; an abstention where it has none; errors as above."""
        scores = await self.steps(query, split_steps(candidate.text), call)
        return self._aggregate(scores) if scores else None


class OutcomeReward:
    """A sequence classifier behind `/classify`, shown the conversation with the answer at its end.

    Args:
        client: the server.
        label: which class is the good one; the last one by default, which is also the only one of a regression head.
    """

    name = "orm"

    def __init__(self, client: PoolingClient, *, label: int = -1) -> None:
        self._client = client
        self._label = label

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:
        """The probability of the good class; see `base.Scorer`.

        Raises:
            UpstreamError: the server refused, failed or fell silent.
        """
        messages = [*query.messages, {"role": "assistant", "content": candidate.text}]
        return _probability(await self._client.classes(messages, call), self._label)


class PairReward:
    """A cross-encoder behind `/score`: how well an answer fits its question."""

    name = "pair"

    def __init__(self, client: PoolingClient) -> None:
        self._client = client

    async def score(self, query: Query, candidate: Candidate, call: Call) -> float | None:
        """The score of question and answer; see `base.Scorer`.

        Raises:
            UpstreamError: the server refused, failed or fell silent.
        """
        return _probability([await self._client.relevance(query.text, candidate.text, call)], 0)


def _probability(row: Sequence[float], label: int) -> float | None:
    """A class's probability; None for what is none, as from a model whose activation was switched off."""
    value = row[label] if -len(row) <= label < len(row) else math.nan
    return value if 0.0 <= value <= 1.0 else None
