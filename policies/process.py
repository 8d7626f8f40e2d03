"""How good a path of reasoning is: raw scores of its steps, and one value made of them.

A process reward model scores all steps of a path at once; any other scorer is asked about the path as it stands, which
is the score of its last step. An abstention is kept as None and counts as not knowing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from rheostat.data.schema import Query
from rheostat.policies.base import Context
from rheostat.policies.scoring import LOGPROB, scorer_of
from rheostat.policies.steps import Path, as_candidate
from rheostat.policies.together import Failed, together

UNKNOWN = 0.5

AGGREGATIONS: Mapping[str, Callable[[Sequence[float]], float]] = {"last": lambda scores: scores[-1], "min": min, "prod": math.prod}


class Scored(NamedTuple):
    """A path and its value in [0, 1]."""

    path: Path
    value: float


class StepScores:
    """Scores the last steps of paths.

    Raises:
        ActionError: the measure needs a scorer that is not there.
    """

    def __init__(self, query: Query, context: Context, *, by: str, agg: str) -> None:
        self._query = query
        self._context = context
        self._aggregate = AGGREGATIONS[agg]
        self._scorer = None if by == LOGPROB else scorer_of(by, context)

    async def given(self, paths: Sequence[Path]) -> list[Scored]:
        """The paths with the raw scores of their steps, and their values; all are asked for at once."""
        if self._scorer is None:
            scores: list[tuple[float | None, ...]] = [(*path.scores, _likelihood(path)) for path in paths]
        else:
            asked = [self._asked(path) for path in paths]
            scores = [
                (*path.scores, None) if isinstance(found, Failed) else found
                for path, found in zip(paths, await together(asked), strict=True)
            ]
        return [self._scored(path, found) for path, found in zip(paths, scores, strict=True)]

    def _scored(self, path: Path, scores: tuple[float | None, ...]) -> Scored:
        value = self._aggregate([UNKNOWN if score is None else score for score in scores])
        return Scored(replace(path, scores=scores), value)

    async def _asked(self, path: Path) -> tuple[float | None, ...]:
        steps = getattr(self._scorer, "steps", None)
        if steps is not None:
            found = await steps(self._query, path.steps, self._context.call)
            return (*path.scores, None) if found is None else tuple(found)
        assert self._scorer is not None
        candidate = as_candidate(path, self._query, self._context, index=path.node)
        return (*path.scores, await self._scorer.score(self._query, candidate, self._context.call))


def _likelihood(path: Path) -> float | None:
    """The path's probability per token."""
    mean = path.mean_logprob
    return None if mean is None else math.exp(min(0.0, mean))
