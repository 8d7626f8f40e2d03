"""The controller: a request in, a complete Decision out. Where encoder, predictor, rules and exploration meet.

Knows nothing of HTTP, strategies or logs. Deterministic for a seed; its only state is the random stream of exploration,
a cache of multiplier paths, and what was seen of the queries just decided, so that following a decision need not look again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from msgspec import to_builtins

from rheostat.data.errors import InfeasibleError
from rheostat.data.ledger import Price
from rheostat.data.schema import Action, Decision, Guarantee, new_id
from rheostat.router import rules
from rheostat.router.ask import Ask
from rheostat.router.base import Array, Encoder, FeatureRow
from rheostat.router.budgets import NO_BUDGETS, Budgets
from rheostat.router.bundle import Bundle
from rheostat.router.explorer import Drawn, Explorer
from rheostat.router.features import STATISTICS, feature_rows
from rheostat.router.frontier import frontier
from rheostat.router.guidance import Guidance
from rheostat.router.paths import Paths
from rheostat.router.predictor import PriceVector
from rheostat.router.promises import PromisedPath
from rheostat.router.recent import Recent
from rheostat.router.ruling import FORCED, SEQUENTIAL, Ruling, SingleAction
from rheostat.router.several import SeveralActions
from rheostat.router.situation import Seen, Situation

_MAX_SETS = 64  # of models that are up, of which a fleet sees few
_MAX_DECIDED = 256  # decisions between being made and being followed, which a request does at once


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
        self._budgets = budgets
        self._encoder = bundle.encoder if encoder is None else encoder
        self._models = [action.model for action in bundle.actions]
        self._spellings = [str(action) for action in bundle.actions]
        self._caps = np.array([action.max_tokens for action in bundle.actions])
        priced = [prices.get(model, Price()) for model in self._models]
        self._prices = PriceVector.of([price.usd_per_1m_output for price in priced], [price.usd_per_1m_input for price in priced])
        self._paths = Paths(bundle, self._prices)
        self._single = SingleAction(bundle.guard, self._paths)
        plan = bundle.plan if sequential else None
        self._several = SeveralActions(plan, self._paths, self._caps) if plan is not None and plan.fits(self._prices) else None
        self._explorer = Explorer(epsilon, seed)
        self._decided_on: Recent[Seen] = Recent(_MAX_DECIDED)
        self._allowed = lru_cache(_MAX_SETS)(self._allowed_of)

    def read(self, texts: list[str]) -> list[Seen]:
        """What the bundle makes of texts; together they take a fraction of the time."""
        return self._read(texts, self._encoder.encode(texts))

    def decide(self, ask: Ask, seen: Seen | None = None) -> Decision:
        """Pick an action for a request.

        Args:
            ask: the request.
            seen: what `read` gave for its text, where that was asked before.

        Returns:
            A complete decision; `feasible` is false where it is only the best attainable.

        Raises:
            InfeasibleError: none of the bundle's models is up, or the request is strict and cannot be met.
        """
        return self._decided(ask, self._look(ask, seen), self._choose)

    def decide_unread(self, ask: Ask) -> Decision:
        """`decide` where the text's embedding is not there in time: by the text's own statistics and a typical meaning.

        The meaning is that of the training query that is nearest to all others, and the decision is one action.
        """
        return self._decided(ask, self._look(ask, self._read([ask.query.text], self._typical)[0]), self._single.rule)

    def follow(self, ask: Ask, decision: Decision) -> Guidance | None:
        """What the bundle knows beyond the decision itself, for carrying it out; None where that is nothing.

        Args:
            ask: that was decided; its `models` are those that may be run on the way.
            decision: for it.

        Raises:
            InfeasibleError: none of those models is in the bundle.
        """
        if decision.bundle != self.bundle.version or decision.embedding is None or not self._is_guided(decision):
            return None
        seen = self._decided_on.take(decision.decision_id) or self._read_again(ask.query.text, decision.embedding)
        several = self._several if decision.rule == SEQUENTIAL else None
        course = None if several is None else several.course(self._look(ask, seen))
        return Guidance(self.bundle.actions, seen.prediction.p_correct, self.bundle.stops, course, ask.query.text)

    def explain(self, ask: Ask) -> dict[str, Any]:
        """What `decide` sees and would do without exploring, for people: features, predictions, frontier, rule.

        Raises:
            InfeasibleError: none of the bundle's models is up.
        """
        situation = self._look(ask)
        ruling = self._choose(situation)
        edge = frontier(situation.prediction.p_correct, situation.prediction.cost_usd, situation.admissible)
        statistics = situation.features[-len(STATISTICS) :]
        guarantee = self._guarantee(situation, ruling)
        return {
            "action": self._spellings[ruling.action],
            "bundle": self.bundle.version,
            "tier": ask.tier,
            "rule": ruling.rule,
            "multiplier_usd": ruling.multiplier,
            "target_accuracy": situation.target,
            "feasible": ruling.feasible,
            "guarantee": None if guarantee is None else to_builtins(guarantee),
            "degraded": ruling.degraded,
            "features": {name: round(float(value), 4) for name, value in zip(STATISTICS, statistics, strict=True)},
            "support_distance": self.bundle.guard.distance(situation.embedding),
            "support_limit": self.bundle.guard.limit,
            "predictions": self._predictions(situation),
            "frontier": [self._spellings[index] for index in edge],
        }

    def promised(self, confidence: float, models: Collection[str]) -> PromisedPath | None:
        """What can be promised while these models are up; None where the bundle has none of them.

        Asked for once, it is there when the first request wants it.
        """
        allowed = self._allowed(frozenset(models))
        return self._paths.promised(allowed, confidence) if allowed.any() else None

    def _decided(self, ask: Ask, situation: Situation, choose: Callable[[Situation], Ruling]) -> Decision:
        ruling = choose(situation) if ask.forced is None else Ruling(self._index(ask.forced), feasible=True, rule=FORCED)
        if situation.constraints.strict and not ruling.feasible:
            raise InfeasibleError(self._why_not(situation, ruling))
        decision = self._record(ask, situation, self._explorer.draw(situation, ruling))
        if self._is_guided(decision):
            self._decided_on.keep(decision.decision_id, situation.seen)
        return decision

    def _is_guided(self, decision: Decision) -> bool:
        """Whether more is known than the decision itself says."""
        return decision.action in self.bundle.stops or (decision.rule == SEQUENTIAL and decision.action in self._spellings)

    def _read(self, texts: list[str], embeddings: FeatureRow) -> list[Seen]:
        """What the bundle makes of texts with (n, d) embeddings."""
        features = feature_rows(embeddings, texts)
        predictions = self.bundle.predictor.predict(features, self._prices, [len(text) for text in texts])
        return [*map(Seen, embeddings, features, predictions)]

    def _read_again(self, text: str, embedding: bytes) -> Seen:
        """The same from a decision's embedding, which is as near as its precision allows."""
        return self._read([text], np.frombuffer(embedding, dtype="<f2").astype(np.float32)[None])[0]

    def _look(self, ask: Ask, seen: Seen | None = None) -> Situation:
        constraints = ask.constraints
        embedding, features, prediction = self.read([ask.query.text])[0] if seen is None else seen
        allowed = self._allowed(ask.models)
        any_up = bool(np.count_nonzero(allowed))
        if not any_up and ask.forced is None:
            raise InfeasibleError(
                f"none of the bundle's models is up ({', '.join(sorted(set(self._models)))}): start one, or fit for {ask.models}"
            )
        latency_p95 = self.bundle.predictor.costs.latency_p95
        return Situation(
            embedding=embedding,
            features=features,
            prediction=prediction,
            constraints=constraints,
            allowed=allowed,
            admissible=rules.admissible(prediction, self._caps, latency_p95, constraints, allowed=allowed),
            target=self._default_target if constraints.target_accuracy is None else constraints.target_accuracy,
            weighed=prediction.cost_usd * self._scarcity(ask) if ask.scarcity else prediction.cost_usd,
            seconds_p95=prediction.latency_s * latency_p95,
            paced=self._budgets.multiplier(ask.tier, self._paths.of(allowed)) if self._is_paced(ask) and any_up else None,
        )

    def _allowed_of(self, models: frozenset[str] | None) -> rules.Mask:
        """(a,) which actions' models are up; all where None says so."""
        mask = np.array([models is None or model in models for model in self._models])
        mask.flags.writeable = False  # it is the same for every request
        return mask

    def _scarcity(self, ask: Ask) -> Array:
        """(a,) how many times dearer than its price an action counts."""
        return np.array([ask.scarcity.get(model, 1.0) for model in self._models])

    @cached_property
    def _typical(self) -> FeatureRow:
        """(1, d) the training embedding that is nearest to all others."""
        support = self.bundle.guard.support
        return np.asarray(support[int((support @ support.sum(axis=0)).argmax())][None])

    def _is_paced(self, ask: Ask) -> bool:
        own = ask.query.constraints
        return own.target_accuracy is None and own.confidence is None and ask.tier in self._budgets

    @property
    def _default_target(self) -> float:
        """Without a target: what the best single action gives."""
        return self.bundle.held_out.accuracy_of(self.bundle.guard.action)

    def _choose(self, situation: Situation) -> Ruling:
        single = self._single.rule(situation)
        return single if self._several is None else self._several.instead_of(single, situation)

    def _record(self, ask: Ask, situation: Situation, drawn: Drawn) -> Decision:
        prediction, ruling, action = situation.prediction, drawn.ruling, drawn.action
        known = action >= 0
        edge = frontier(prediction.p_correct, prediction.cost_usd, situation.admissible)
        p_correct, cost_usd = prediction.p_correct.tolist(), prediction.cost_usd.tolist()
        return Decision(
            decision_id=new_id("d"),
            query_id=ask.query.query_id,
            created_s=time.time(),
            action=self._spellings[action] if known else str(ask.forced),
            propensity=drawn.propensity,
            tier=ask.tier,
            target_accuracy=situation.target,
            rule=ruling.rule,
            bundle=self.bundle.version,
            explored=drawn.explored,
            feasible=ruling.feasible,
            guarantee=self._guarantee(situation, ruling),
            degraded=ruling.degraded,
            prompt_sha256=ask.prompt_sha256,
            embedding=situation.embedding.astype("<f2").tobytes(),
            alternatives={self._spellings[index]: (p_correct[index], cost_usd[index]) for index in edge},
            **(self._expectations(situation, ruling, action) if known else {}),
        )

    def _guarantee(self, situation: Situation, ruling: Ruling) -> Guarantee | None:
        """What is promised of the decision, where a confidence was asked for."""
        confidence = situation.confidence
        if confidence is None:
            return None
        attainable = self._paths.promised(situation.allowed, confidence).attainable if situation.allowed.any() else None
        return Guarantee(target=situation.target, confidence=confidence, holds=ruling.promised, attainable=attainable)

    def _expectations(self, situation: Situation, ruling: Ruling, action: int) -> dict[str, Any]:
        """What is expected of an action on this query; of several, what they gave on held-out queries at this target."""
        if ruling.rule == SEQUENTIAL and self._several is not None and ruling.multiplier is not None:
            return self._several.at(ruling.multiplier)._asdict()
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
        chance = float(situation.prediction.p_correct[ruling.action])
        best = f"on this query {self._spellings[ruling.action]} is right with a chance of {chance:.2f}"
        return f"{self._shortfall(situation)}; {best}: relax the constraints, or leave strict out"

    def _shortfall(self, situation: Situation) -> str:
        if not situation.admissible.any():
            return "no action fits the caps and the deadline"
        if situation.confidence is not None:
            path = self._paths.promised(situation.allowed, situation.confidence)
            if path.attainable < situation.target:
                return path.why_not(situation.target)
        most = float(self._paths.of(situation.allowed).accuracy.max())
        if most < situation.target and not situation.constraints.high_stakes:
            return f"the target {situation.target:.2f} is one of all traffic, of which these models are right on {most:.2f} at most"
        return f"no admissible action is sure to meet the target {situation.target:.2f} on this query"
