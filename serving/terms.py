"""The terms of a request: what its tier and it itself allow it to spend, and what is left of its deadline.

A deadline runs from the arrival of the request, not from the end of its wait for a place, so that what is left of it is
worked out anew whenever it is asked for.
"""

from __future__ import annotations

from functools import cached_property

import msgspec

from rheostat.data.schema import Constraints
from rheostat.router.ask import merged
from rheostat.serving.context import waited_s
from rheostat.serving.steps import Limits


class Terms(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The tier's constraints as `defaults`, those of a plain model being none, and the request's own."""

    defaults: Constraints
    own: Constraints

    @cached_property
    def both(self) -> Constraints:
        """The request's own constraints over its tier's."""
        return merged(self.defaults, self.own)

    @property
    def left(self) -> Terms:
        """The same terms with what is left of their deadlines now."""
        return self if self.both.deadline_s is None else Terms(defaults=_hurried(self.defaults), own=_hurried(self.own))

    @property
    def limits(self) -> Limits:
        """What all of the request's actions together may spend from now on."""
        return Limits(tokens=self.both.max_tokens_total, cost_usd=self.both.max_cost_usd, deadline_s=self.deadline_s)

    @property
    def high_stakes(self) -> bool:
        """Whether the answer is to be checked before it goes out."""
        return self.both.high_stakes

    @property
    def deadline_s(self) -> float | None:
        """Seconds left now, at least 0; None without a deadline."""
        return _left_s(self.both.deadline_s)


def _left_s(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(deadline_s - waited_s(), 0.0)


def _hurried(constraints: Constraints) -> Constraints:
    if constraints.deadline_s is None:
        return constraints
    return msgspec.structs.replace(constraints, deadline_s=_left_s(constraints.deadline_s))
