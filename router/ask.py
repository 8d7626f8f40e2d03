"""What is asked about one request, and what answers it: the seam between serving and the router."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol

from rheostat.data.schema import Action, Constraints, Decision, Query
from rheostat.router.guidance import Guidance

NO_CONSTRAINTS = Constraints()


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, as the router sees it.

    Attributes:
        query: its own constraints override `defaults`, field by field.
        tier: the name that goes into the record.
        defaults: the tier's constraints.
        models: models that are up; all of the bundle's when None.
        forced: take this action, whatever the rules say.
        scarcity: how many times dearer than its price a model counts in the rules, for load; 1 where not named.
    """

    query: Query
    _: KW_ONLY
    tier: str = "balanced"
    defaults: Constraints = NO_CONSTRAINTS
    models: frozenset[str] | None = None
    forced: Action | None = None
    scarcity: Mapping[str, float] = field(default_factory=dict)

    @property
    def constraints(self) -> Constraints:
        """The query's constraints over the tier's."""
        return merged(self.defaults, self.query.constraints)

    @property
    def prompt_sha256(self) -> str:
        """SHA-256 of the query's text, lone surrogates included."""
        return hashlib.sha256(self.query.text.encode("utf-8", "surrogatepass")).hexdigest()

    def is_up(self, model: str) -> bool:
        """Whether a model may be used."""
        return self.models is None or model in self.models


class Decides(Protocol):
    """Whatever picks an action for a request."""

    def decide(self, ask: Ask) -> Decision:
        """One action, and why.

        Raises:
            InfeasibleError: no model is up, or the request is strict and cannot be met.
        """
        ...

    def explain(self, ask: Ask) -> dict[str, Any]:
        """What `decide` sees and would do without exploring, for people.

        Raises:
            InfeasibleError: no model is up.
        """
        ...

    def follow(self, ask: Ask, decision: Decision) -> Guidance | None:
        """What is known beyond a decision, for carrying it out; None where that is nothing."""
        ...


def merged(defaults: Constraints, own: Constraints) -> Constraints:
    """The request's constraints over the tier's: its numbers where it gave them, the stricter of the switches."""

    if own == NO_CONSTRAINTS:
        return defaults

    def first(name: str) -> Any:
        value = getattr(own, name)
        return getattr(defaults, name) if value is None else value

    return Constraints(
        target_accuracy=first("target_accuracy"),
        confidence=first("confidence"),
        max_cost_usd=first("max_cost_usd"),
        max_tokens_total=first("max_tokens_total"),
        deadline_s=first("deadline_s"),
        high_stakes=own.high_stakes or defaults.high_stakes,
        strict=own.strict or defaults.strict,
        explore=own.explore and defaults.explore,
    )
