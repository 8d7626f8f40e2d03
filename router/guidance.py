"""What was decided for one query, at hand while it is carried out: its stop rules, and what to run next.

Knows the bundle's catalogue and this query's predictions; knows neither how actions are run nor what they answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rheostat.data.schema import Action
from rheostat.router.answer_score import ScoredQuery
from rheostat.router.base import Array
from rheostat.router.courses import Course
from rheostat.router.stopping import StopModel, StopPolicy


class KnownStop(NamedTuple):
    """The stop policy of an action, the prior of the query, and what scores its answers, if anything does."""

    policy: StopPolicy
    prior: tuple[float, ...]
    score: ScoredQuery | None


@dataclass(frozen=True, slots=True)
class Guidance:
    """The knowledge behind one decision.

    Attributes:
        actions: the catalogue; positions elsewhere are in it.
        p_correct: (a,) predictions for the query.
        stops: learned stop rules by action.
        course: where several actions may be run, None where the decision's own is all there is.
        text: of the query, which its answers are held against.
    """

    actions: Sequence[Action]
    p_correct: Array
    stops: Mapping[str, StopModel]
    course: Course | None = None
    text: str = ""

    def stop(self, action: Action) -> KnownStop | None:
        """What the bundle knows about when to stop an action; None where it has no rule for it."""
        model = self.stops.get(str(action))
        return None if model is None else KnownStop(model.policy, model.prior(self.p_correct), model.score(self.text, self.p_correct))
