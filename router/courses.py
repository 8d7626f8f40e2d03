"""Courses: several actions on one query, each chosen in the light of the answers so far, under the request's limits.

A `Plan` is what a bundle carries: the sequential policy, the actions it may run, and what each price of accuracy gave on
held-out queries. A `Course` is one query on its way: it says what to run next, is told the answer, and in the end names
the action whose answer to give. Knows answers only as equal or different.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array
from rheostat.router.predictor import PriceVector
from rheostat.router.rules import MultiplierPath
from rheostat.router.sequential import NO_ANSWER, Network, SequentialPolicy, prior_rows

NETWORKS = ("judge", "gain")


@dataclass(frozen=True, slots=True)
class Plan:
    """A sequential policy over some of a catalogue's actions.

    Attributes:
        policy: fitted over the `arms`.
        arms: their positions in the catalogue.
        path: multipliers with the accuracy and cost they gave on held-out queries.
        prices: of the arms, that it was fitted for: at others its gains are not worth their cost.
    """

    policy: SequentialPolicy
    arms: tuple[int, ...]
    path: MultiplierPath
    prices: PriceVector

    def fits(self, prices: PriceVector) -> bool:
        """Whether the catalogue's prices are those that the plan was fitted for."""
        arms = list(self.arms)
        return bool(np.allclose(self.prices.output, prices.output[arms]) and np.allclose(self.prices.prompt, prices.prompt[arms]))


class Expected(NamedTuple):
    """What is expected of every action of the catalogue on one query; all are (a,).

    Attributes:
        p_correct: P(correct).
        cost: what the rule weighs, in USD, scarcity included.
        cost_usd: what will be paid.
        tokens: caps in generated tokens.
        seconds: 95th percentile.
        allowed: whether it may be run at all.
    """

    p_correct: Array
    cost: Array
    cost_usd: Array
    tokens: npt.NDArray[np.int64]
    seconds: Array
    allowed: npt.NDArray[np.bool_]

    def of(self, arms: list[int]) -> Expected:
        """The expectations of some of the actions."""
        p_correct, cost, cost_usd, tokens, seconds, allowed = self
        return Expected(p_correct[arms], cost[arms], cost_usd[arms], tokens[arms], seconds[arms], allowed[arms])


class Left(NamedTuple):
    """What may still be spent on a query; None is no limit."""

    tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None


class Turn(NamedTuple):
    """What to do now: run `action`, or stop when it is None and give the answer of `leader`, if any action gave one.

    Both are positions in the catalogue; `p_correct` is of the leading answer, 0 where there is none.
    """

    action: int | None
    leader: int | None
    p_correct: float


class Course:
    """One query under a plan.

    Args:
        plan: of the bundle.
        expected: of the query.
        multiplier: USD worth paying for one unit of accuracy.
    """

    def __init__(self, plan: Plan, expected: Expected, *, multiplier: float) -> None:
        self._plan = plan
        self._expected = expected.of(list(plan.arms))
        self._prior = prior_rows(self._expected.p_correct)
        self._multiplier = multiplier
        self._allowed = self._expected.allowed.copy()
        self._run = np.zeros(len(plan.arms), dtype=bool)
        self._answers = np.full(len(plan.arms), NO_ANSWER, dtype=np.int16)
        self._numbers: dict[str, int] = {}

    @property
    def cap_tokens(self) -> int:
        """The most generated tokens that any course of this query could take."""
        return int(np.sort(self._expected.tokens)[-self._plan.policy.depth :].sum())

    def turn(self, left: Left) -> Turn:
        """What to do now, within what is left; `action` is None at the start only where nothing fits."""
        fits = self._allowed & ~self._run & self._affordable(left)
        cost = np.where(fits, self._expected.cost, np.inf)
        step = self._plan.policy.step(self._prior, self._answers, self._run, cost, multiplier=self._multiplier)
        onward = step.action is not None and bool(fits[step.action])
        arms = self._plan.arms
        return Turn(
            action=arms[step.action] if onward and step.action is not None else None,
            leader=None if step.leader is None else arms[step.leader],
            p_correct=step.p_correct,
        )

    def saw(self, action: int, answer: str | None) -> None:
        """Note what an action answered; None is an answer that could not be read."""
        at = self._plan.arms.index(action)
        self._run[at] = True
        self._answers[at] = NO_ANSWER if answer is None else self._numbers.setdefault(answer, len(self._numbers))

    def bar(self, action: int) -> None:
        """Do not run an action: it failed."""
        self._allowed[self._plan.arms.index(action)] = False

    def _affordable(self, left: Left) -> npt.NDArray[np.bool_]:
        limits = ((left.tokens, self._expected.tokens), (left.cost_usd, self._expected.cost_usd), (left.seconds, self._expected.seconds))
        fits = np.ones(len(self._run), dtype=bool)
        for limit, needed in limits:
            if limit is not None:
                fits &= needed <= limit
        return fits


def plan_arrays(plan: Plan) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """A plan as arrays by name and a layout: what makes a bundle free of pickle."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "plan.arms": np.array(plan.arms),
        "plan.multiplier": plan.path.multiplier,
        "plan.accuracy": plan.path.accuracy,
        "plan.cost": plan.path.cost,
        "plan.output": plan.prices.output,
        "plan.prompt": plan.prices.prompt,
    }
    layers = {}
    for name in NETWORKS:
        network: Network = getattr(plan.policy, name)
        layers[name] = len(network.weights)
        arrays |= {f"plan.{name}.weight{at}": weight for at, weight in enumerate(network.weights)}
        arrays |= {f"plan.{name}.bias{at}": bias for at, bias in enumerate(network.biases)}
    return arrays, {"layers": layers, "scale": plan.policy.scale, "depth": plan.policy.depth}


def plan_from(arrays: Mapping[str, npt.NDArray[Any]], layout: Mapping[str, Any], n_actions: int) -> Plan:
    """The plan that `plan_arrays` took apart.

    Raises:
        KeyError: an array is missing.
        ValueError: the arrays do not fit together, or an arm is no action.
    """
    arms = tuple(int(arm) for arm in arrays["plan.arms"])
    if not arms or not all(0 <= arm < n_actions for arm in arms):
        raise ValueError(f"the sequential policy runs actions {arms} of {n_actions}")
    networks = {name: _network(arrays, name, int(layout["layers"][name])) for name in NETWORKS}
    policy = SequentialPolicy(**networks, scale=float(layout["scale"]), depth=int(layout["depth"]))
    path = MultiplierPath(*(arrays[f"plan.{name}"] for name in ("multiplier", "accuracy", "cost")))
    plan = Plan(policy, arms, path, PriceVector(arrays["plan.output"], arrays["plan.prompt"]))
    _try_out(plan)
    return plan


def _network(arrays: Mapping[str, npt.NDArray[Any]], name: str, layers: int) -> Network:
    parts = [tuple(arrays[f"plan.{name}.{part}{at}"] for at in range(layers)) for part in ("weight", "bias")]
    return Network(parts[0], parts[1])


def _try_out(plan: Plan) -> None:
    """Take one step of every kind, so that arrays of the wrong shape are found now and not with a query."""
    ones, caps = np.ones(max(plan.arms) + 1), np.ones(max(plan.arms) + 1, dtype=np.int64)
    course = Course(plan, Expected(ones / 2, ones, ones, caps, ones, ones > 0), multiplier=1.0)
    course.turn(Left())
    for number, arm in enumerate(plan.arms[:2]):
        course.saw(arm, str(number))
        course.turn(Left())
