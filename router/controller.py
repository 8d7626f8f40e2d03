"""The controller: a query in, a complete Decision out. The only place where encoder, predictor, rules and guard meet.

Knows nothing of HTTP, strategies or logs. Deterministic for a seed; its only state is the random stream of exploration
and a cache of multiplier paths.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from rheostat.data.errors import InfeasibleError
from rheostat.data.ledger import Price
from rheostat.data.schema import Action, Constraints, Decision, Query, new_id
from rheostat.router import explore, rules
from rheostat.router.base import Array, Encoder, FeatureRow, Prediction
from rheostat.router.budgets import NO_BUDGETS, Budgets
from rheostat.router.bundle import Bundle
from rheostat.router.courses import Course, Expected, Left, Plan
from rheostat.router.features import STATISTICS, feature_rows
from rheostat.router.frontier import frontier
from rheostat.router.guidance import Guidance
from rheostat.router.predictor import PriceVector

FORCED, GUARD, FALLBACK = "forced", "guard", "fallback"
AVERAGE, BUDGET, SEQUENTIAL = "average", "budget", "sequential"
CONGESTED, DEADLINE = "congested", "deadline"
NO_CONSTRAINTS = Constraints()
_MAX_PATHS = 64

Models = frozenset[str] | None
Scarcity = Mapping[str, float]
CALM: Scarcity = {}


class Decides(Protocol):
    """What serving needs of a controller."""

    def decide(
        self,
        query: Query,
        *,
        tier: str = "balanced",
        defaults: Constraints = ...,
        models: Models = None,
        forced: Action | None = None,
        scarcity: Scarcity = CALM,
    ) -> Decision:
        """The decision for one query; see `Controller.decide`."""
        ...

    def follow(self, query: Query, decision: Decision, *, defaults: Constraints = ..., scarcity: Scarcity = CALM) -> Guidance | None:
        """What is known while a decision is carried out; see `Controller.follow`."""
        ...


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a rule said: the action, whether it meets the target, by which rule and multiplier, and the fallen-back-to reason."""

    action: int
    feasible: bool
    rule: str
    multiplier: float | None = None
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """What will be done: the ruling, the action in the end, its chance, and whether it was tried for the sake of learning."""

    ruling: Ruling
    action: int
    propensity: float
    explored: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """All that is known about one query before an action is picked.

    `weighed` is the cost that the rules see under load; `paced` the multiplier of a tier with a budget, None without one.
    """

    embedding: FeatureRow
    features: FeatureRow
    prediction: Prediction
    constraints: Constraints
    allowed: rules.Mask
    admissible: rules.Mask
    target: float
    weighed: Array
    paced: float | None


class Controller:
    """Decides with a bundle.

    Args:
        bundle: what was learned.
        prices: by model; a model without one costs 1 USD per million generated tokens.
        epsilon: chance of exploring, in [0, 1].
        seed: of the exploration.
        encoder: the bundle's encoder where it is loaded already.
        sequential: whether several actions may be run on a query where the bundle's evidence is for it.
        budgets: of tiers whose requests may cost so much on average; a request's own target goes before.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        prices: Mapping[str, Price],
        epsilon: float = 0.0,
        seed: int = 0,
        encoder: Encoder | None = None,
        sequential: bool = True,
        budgets: Budgets = NO_BUDGETS,
    ) -> None:
        self.bundle = bundle
        self.epsilon = epsilon
        self._budgets = budgets
        self._random = random.Random(seed)
        self._encoder = bundle.encoder if encoder is None else encoder
        self._models = [action.model for action in bundle.actions]
        self._spellings = [str(action) for action in bundle.actions]
        self._caps = np.array([action.max_tokens for action in bundle.actions])
        priced = [prices.get(model, Price()) for model in self._models]
        self._prices = PriceVector.of([price.usd_per_1m_output for price in priced], [price.usd_per_1m_input for price in priced])
        self._paths: dict[bytes, rules.MultiplierPath] = {}
        fits = bundle.plan is not None and bundle.plan.fits(self._prices)
        self._plan = bundle.plan if sequential and fits else None
        self._held_out_cost = bundle.held_out.tokens * self._prices.output + bundle.held_out.prompt_tokens * self._prices.prompt

    def decide(
        self,
        query: Query,
        *,
        tier: str = "balanced",
        defaults: Constraints = NO_CONSTRAINTS,
        models: Models = None,
        forced: Action | None = None,
        scarcity: Scarcity = CALM,
    ) -> Decision:
        """Pick an action for a query.

        Args:
            query: its own constraints override `defaults`, field by field.
            tier: the name that goes into the record.
            defaults: the tier's constraints.
            models: models that are up; all of the bundle's when None.
            forced: take this action, whatever the rules say.
            scarcity: how many times dearer than its price a model counts in the rules, for load; 1 where not named.

        Returns:
            A complete decision; `feasible` is false where it is only the best attainable.

        Raises:
            InfeasibleError: none of the bundle's models is up, or the request is strict and cannot be met.
        """
        situation = self._look(query, tier, defaults, models, forced, scarcity)
        ruling = self._choose(situation) if forced is None else Ruling(self._index(forced), feasible=True, rule=FORCED)
        if situation.constraints.strict and not ruling.feasible:
            raise InfeasibleError(self._why_not(situation, ruling))
        drawn = self._explore(situation, ruling)
        return self._record(query, tier, situation, drawn, forced=forced)

    def follow(
        self, query: Query, decision: Decision, *, defaults: Constraints = NO_CONSTRAINTS, scarcity: Scarcity = CALM
    ) -> Guidance | None:
        """What the bundle knows beyond the decision itself, for carrying it out; None where that is nothing.

        Args:
            query: that was decided.
            decision: for it.
            defaults: the tier's constraints, as given to `decide`.
            scarcity: as given to `decide`.
        """
        several = decision.rule == SEQUENTIAL and decision.action in self._spellings
        if decision.bundle != self.bundle.version or decision.embedding is None or not (several or decision.action in self.bundle.stops):
            return None
        embedding = np.frombuffer(decision.embedding, dtype="<f2").astype(np.float32)[None]
        situation = self._look(query, decision.tier, defaults, None, None, scarcity, embedding=embedding)
        course = self._course(self._plan, situation) if several and self._plan is not None else None
        return Guidance(self.bundle.actions, situation.prediction.p_correct, self.bundle.stops, course)

    def explain(
        self,
        query: Query,
        *,
        tier: str = "balanced",
        defaults: Constraints = NO_CONSTRAINTS,
        models: Models = None,
        scarcity: Scarcity = CALM,
    ) -> dict[str, Any]:
        """What `decide` sees and would do without exploring, for people: features, predictions, frontier, rule.

        Raises:
            InfeasibleError: none of the bundle's models is up.
        """
        situation = self._look(query, tier, defaults, models, None, scarcity)
        ruling = self._choose(situation)
        edge = frontier(situation.prediction.p_correct, situation.prediction.cost_usd, situation.admissible)
        statistics = situation.features[-len(STATISTICS) :]
        return {
            "action": self._spellings[ruling.action],
            "bundle": self.bundle.version,
            "tier": tier,
            "rule": ruling.rule,
            "multiplier_usd": ruling.multiplier,
            "target_accuracy": situation.target,
            "feasible": ruling.feasible,
            "degraded": ruling.degraded,
            "features": {name: round(float(value), 4) for name, value in zip(STATISTICS, statistics, strict=True)},
            "support_distance": self.bundle.guard.distance(situation.embedding),
            "support_limit": self.bundle.guard.limit,
            "predictions": self._predictions(situation),
            "frontier": [self._spellings[index] for index in edge],
        }

    def _look(
        self,
        query: Query,
        tier: str,
        defaults: Constraints,
        models: Models,
        forced: Action | None,
        scarcity: Scarcity,
        *,
        embedding: FeatureRow | None = None,
    ) -> Situation:
        constraints = merged(defaults, query.constraints)
        text = query.text
        embedding = self._encoder.encode([text]) if embedding is None else embedding
        features = feature_rows(embedding, [text])[0]
        prediction = self.bundle.predictor.predict(features, self._prices, len(text))
        allowed = np.array([models is None or model in models for model in self._models])
        if not allowed.any() and forced is None:
            raise InfeasibleError(
                f"none of the bundle's models is up ({', '.join(sorted(set(self._models)))}): start one, or fit for {models}"
            )
        fits = rules.admissible(prediction, self._caps, self.bundle.predictor.costs.latency_p95, constraints, allowed=allowed)
        target = constraints.target_accuracy
        weighed = prediction.cost_usd * np.array([scarcity.get(model, 1.0) for model in self._models]) if scarcity else prediction.cost_usd
        own = query.constraints.target_accuracy
        return Situation(
            embedding=embedding[0],
            features=features,
            prediction=prediction,
            constraints=constraints,
            allowed=allowed,
            admissible=fits,
            target=self._default_target if target is None else target,
            weighed=weighed,
            paced=self._budgets.multiplier(tier, self.path(allowed)) if own is None and tier in self._budgets else None,
        )

    @property
    def _default_target(self) -> float:
        """Without a target: what the best single action gives."""
        return float(self.bundle.held_out.reward[:, self.bundle.guard.action].mean())

    def _choose(self, situation: Situation) -> Ruling:
        """What the rule says, or several actions where they are expected to be the better use of the same money."""
        ruling = self._rule(situation)
        plan = self._plan
        if plan is None or ruling.rule not in (AVERAGE, BUDGET) or not situation.allowed[list(plan.arms)].all():
            return ruling
        if ruling.rule == AVERAGE and not self._pays(plan, situation):
            return ruling
        multiplier = self._worth(plan, situation)
        limits = situation.constraints
        left = Left(limits.max_tokens_total, limits.max_cost_usd, limits.deadline_s)
        first = self._course(plan, situation).turn(left).action
        return ruling if first is None else Ruling(first, feasible=True, rule=SEQUENTIAL, multiplier=multiplier)

    def _pays(self, plan: Plan, situation: Situation) -> bool:
        """Whether several actions reached the target on held-out queries, and for less than one each."""
        alone = self.path(situation.allowed)
        several, reached = plan.path.index_for(situation.target)
        one, reached_alone = alone.index_for(situation.target)
        return reached and not (reached_alone and alone.cost[one] <= plan.path.cost[several])

    def _worth(self, plan: Plan, situation: Situation) -> float:
        return plan.path.for_target(situation.target)[0] if situation.paced is None else situation.paced

    def _course(self, plan: Plan, situation: Situation) -> Course:
        prediction = situation.prediction
        expected = Expected(
            p_correct=prediction.p_correct,
            cost=situation.weighed,
            cost_usd=prediction.cost_usd,
            tokens=self._caps,
            seconds=prediction.latency_s * self.bundle.predictor.costs.latency_p95,
            allowed=situation.allowed,
        )
        return Course(plan, expected, multiplier=self._worth(plan, situation))

    def _rule(self, situation: Situation) -> Ruling:
        prediction, fits = situation.prediction, situation.admissible
        if not fits.any():
            cheapest = rules.average(prediction.p_correct, situation.weighed, situation.allowed, multiplier=0.0)
            return Ruling(cheapest, feasible=False, rule="cheapest", degraded=self._why_late(situation, cheapest))
        if self.bundle.guard.is_far(situation.embedding):
            return self._guarded(situation)
        if situation.constraints.high_stakes:
            action, feasible = rules.per_query(prediction.p_low, situation.weighed, fits, target=situation.target)
            return Ruling(action, feasible, "per_query")
        path = self.path(situation.allowed)
        multiplier, attainable = path.for_target(situation.target) if situation.paced is None else (situation.paced, True)
        action = rules.average(prediction.p_correct, situation.weighed, fits, multiplier=multiplier)
        free = rules.average(prediction.p_correct, prediction.cost_usd, situation.allowed, multiplier=multiplier)
        # A cap or a load that changes the choice breaks the promise on the mean, unless this query meets the target by itself.
        feasible = attainable and (action == free or bool(prediction.p_correct[action] >= situation.target))
        degraded = None if action == free else self._why_late(situation, free) or self._why_congested(situation, action, multiplier)
        return Ruling(action, feasible, AVERAGE if situation.paced is None else BUDGET, multiplier, degraded)

    def _why_late(self, situation: Situation, action: int) -> str | None:
        """`deadline` where the action would be too late, and None where something else is in its way."""
        deadline_s = situation.constraints.deadline_s
        latency_p95 = situation.prediction.latency_s[action] * self.bundle.predictor.costs.latency_p95[action]
        return DEADLINE if deadline_s is not None and latency_p95 > deadline_s else None

    def _why_congested(self, situation: Situation, action: int, multiplier: float) -> str | None:
        """`congested` where the same rule would pick another action at the real prices."""
        prediction = situation.prediction
        calm = rules.average(prediction.p_correct, prediction.cost_usd, situation.admissible, multiplier=multiplier)
        return CONGESTED if calm != action else None

    def _guarded(self, situation: Situation) -> Ruling:
        guard = self.bundle.guard.action
        prediction = situation.prediction
        if not situation.admissible[guard]:
            guard = rules.most_accurate(prediction.p_correct, prediction.cost_usd, situation.admissible)
        return Ruling(guard, feasible=True, rule=GUARD, degraded="out_of_distribution")

    def path(self, allowed: rules.Mask) -> rules.MultiplierPath:
        """Multiplier to accuracy and cost on the bundle's held-out queries, for the actions that are up."""
        key = allowed.tobytes()
        if key not in self._paths:
            if len(self._paths) >= _MAX_PATHS:
                self._paths.clear()
            held_out = self.bundle.held_out
            self._paths[key] = rules.MultiplierPath.of(
                held_out.p_correct[:, allowed], self._held_out_cost[:, allowed], held_out.reward[:, allowed]
            )
        return self._paths[key]

    def _explore(self, situation: Situation, ruling: Ruling) -> Drawn:
        may = situation.constraints.explore and ruling.rule in (AVERAGE, BUDGET, SEQUENTIAL) and situation.admissible.any()
        if not may or self.epsilon <= 0:
            return Drawn(ruling, ruling.action, 1.0)
        prediction = situation.prediction
        if ruling.rule == SEQUENTIAL:
            return self._beside(situation, ruling)
        chances = explore.propensities(ruling.action, prediction.p_correct, prediction.cost_usd, situation.admissible, self.epsilon)
        action = explore.draw(chances, self._random)
        return Drawn(ruling, action, float(chances[action]), explored=action != ruling.action)

    def _beside(self, situation: Situation, ruling: Ruling) -> Drawn:
        """Now and then a single action in the place of several: only those teach what one action gives."""
        if self._random.random() >= self.epsilon:
            return Drawn(ruling, ruling.action, 1 - self.epsilon)
        prediction = situation.prediction
        near = explore.near_frontier(prediction.p_correct, prediction.cost_usd, situation.admissible)
        action = explore.draw(near / near.sum(), self._random)
        return Drawn(replace(ruling, rule=AVERAGE), action, self.epsilon / int(near.sum()), explored=True)

    def _record(self, query: Query, tier: str, situation: Situation, drawn: Drawn, *, forced: Action | None) -> Decision:
        prediction, ruling, action = situation.prediction, drawn.ruling, drawn.action
        known = action >= 0
        edge = frontier(prediction.p_correct, prediction.cost_usd, situation.admissible)
        return Decision(
            decision_id=new_id("d"),
            query_id=query.query_id,
            created_s=time.time(),
            action=self._spellings[action] if known else str(forced),
            propensity=drawn.propensity,
            tier=tier,
            target_accuracy=situation.target,
            rule=ruling.rule,
            bundle=self.bundle.version,
            explored=drawn.explored,
            feasible=ruling.feasible,
            degraded=ruling.degraded,
            prompt_sha256=text_sha256(query.text),
            embedding=situation.embedding.astype("<f2").tobytes(),
            alternatives={
                self._spellings[index]: (float(prediction.p_correct[index]), float(prediction.cost_usd[index])) for index in edge
            },
            **(self._expectations(situation, ruling, action) if known else {}),
        )

    def _expectations(self, situation: Situation, ruling: Ruling, action: int) -> dict[str, Any]:
        """What is expected of an action on this query; of several, what they gave on held-out queries at this target."""
        if ruling.rule == SEQUENTIAL and self._plan is not None and ruling.multiplier is not None:
            path = self._plan.path
            index = min(int(np.searchsorted(path.multiplier, ruling.multiplier)), len(path.multiplier) - 1)
            return {"p_correct": float(path.accuracy[index]), "cost_usd": float(path.cost[index])}
        prediction = situation.prediction
        return {
            "p_correct": float(prediction.p_correct[action]),
            "p_interval": (float(prediction.p_low[action]), float(prediction.p_high[action])),
            "cost_usd": float(prediction.cost_usd[action]),
        }

    def _index(self, action: Action) -> int:
        """Where a forced action stands in the catalogue, -1 where the bundle does not know it."""
        return self._spellings.index(str(action)) if str(action) in self._spellings else -1

    def _predictions(self, situation: Situation) -> list[dict[str, Any]]:
        prediction = situation.prediction
        return [
            {
                "action": spelling,
                "p_correct": float(prediction.p_correct[index]),
                "p_interval": [float(prediction.p_low[index]), float(prediction.p_high[index])],
                "tokens": float(prediction.tokens[index]),
                "cost_usd": float(prediction.cost_usd[index]),
                "latency_s": float(prediction.latency_s[index]),
                "admissible": bool(situation.admissible[index]),
            }
            for index, spelling in enumerate(self._spellings)
        ]

    def _why_not(self, situation: Situation, ruling: Ruling) -> str:
        attainable = float(situation.prediction.p_correct[ruling.action])
        fits = "no action fits the caps and the deadline" if not situation.admissible.any() else "no admissible action meets the target"
        best = f"the best attainable is {self._spellings[ruling.action]} at {attainable:.2f}"
        return f"{fits} {situation.target:.2f}; {best}: relax the constraints, or leave strict out"


class FallbackController:
    """Decides one fixed action, for when there is no bundle.

    Args:
        actions: in order of preference; the first whose model is up is taken.
    """

    def __init__(self, actions: Sequence[Action]) -> None:
        if not actions:
            raise InfeasibleError("the fallback has no action: name one in the configuration")
        self.actions = tuple(actions)

    def decide(
        self,
        query: Query,
        *,
        tier: str = "balanced",
        defaults: Constraints = NO_CONSTRAINTS,
        models: Models = None,
        forced: Action | None = None,
        scarcity: Scarcity = CALM,
    ) -> Decision:
        """The first action whose model is up, or the forced one.

        Raises:
            InfeasibleError: no model is up, or the request is strict, which nothing here can promise.
        """
        del scarcity  # one fixed action has nothing cheaper to turn to
        constraints = merged(defaults, query.constraints)
        if constraints.strict and forced is None:
            raise InfeasibleError("there is no bundle, so no accuracy can be promised: train one, or leave strict out")
        return Decision(
            decision_id=new_id("d"),
            query_id=query.query_id,
            created_s=time.time(),
            action=str(forced or self._first(models)),
            propensity=1.0,
            tier=tier,
            target_accuracy=constraints.target_accuracy,
            rule=FORCED if forced else FALLBACK,
            bundle="none",
            feasible=forced is not None or constraints.target_accuracy is None,
            degraded="no_bundle",
            prompt_sha256=text_sha256(query.text),
        )

    def explain(
        self,
        query: Query,
        *,
        tier: str = "balanced",
        defaults: Constraints = NO_CONSTRAINTS,
        models: Models = None,
        scarcity: Scarcity = CALM,
    ) -> dict[str, Any]:
        """The fixed action, and that there is no bundle."""
        del query, defaults, scarcity
        return {"action": str(self._first(models)), "bundle": "none", "tier": tier, "rule": FALLBACK, "degraded": "no_bundle"}

    def follow(self, query: Query, decision: Decision, *, defaults: Constraints = NO_CONSTRAINTS, scarcity: Scarcity = CALM) -> None:
        """Nothing is known beyond the fixed action."""
        del query, decision, defaults, scarcity

    def _first(self, models: Models) -> Action:
        for action in self.actions:
            if models is None or action.model in models:
                return action
        raise InfeasibleError(f"no model of {', '.join(map(str, self.actions))} is up: start one")


def merged(defaults: Constraints, own: Constraints) -> Constraints:
    """The request's constraints over the tier's: its numbers where it gave them, the stricter of the switches."""

    def first(name: str) -> Any:
        value = getattr(own, name)
        return getattr(defaults, name) if value is None else value

    return Constraints(
        target_accuracy=first("target_accuracy"),
        max_cost_usd=first("max_cost_usd"),
        max_tokens_total=first("max_tokens_total"),
        deadline_s=first("deadline_s"),
        high_stakes=own.high_stakes or defaults.high_stakes,
        strict=own.strict or defaults.strict,
        explore=own.explore and defaults.explore,
    )


def text_sha256(text: str) -> str:
    """SHA-256 of any text, lone surrogates included."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
