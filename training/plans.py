"""The sequential policy in a training: fitted on the log's samples, and taken only where held-out queries say so.

It may run the actions that the prompt-only router takes at some price. Calibration queries decide whether it is used:
the lower 95% bound of its utility over the prompt-only router's must be above zero. Test queries then say what it gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.data.ledger import Price
from rheostat.router.base import Array
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import pool_adjacent_violators
from rheostat.router.courses import Plan
from rheostat.router.predictor import PriceVector
from rheostat.router.rules import MultiplierPath, choose_rows, multiplier_grid
from rheostat.router.sequential import SequentialPolicy
from rheostat.training import sequential
from rheostat.training.baselines import WORTH, Costed, policy_utility, scale_usd
from rheostat.training.bootstrap import Bootstrap, Interval
from rheostat.training.curves import Spend
from rheostat.training.draws import Draws, draw
from rheostat.training.evaluation import SequentialPoint, SequentialReport
from rheostat.training.judged import costed, lengths, price_vector
from rheostat.training.learners import TrainingSet
from rheostat.training.outcomes import OutcomeTable, Rows
from rheostat.training.sample_log import SampleLog
from rheostat.training.sequential import Episodes, fit_sequential, spend_along
from rheostat.training.split import Split

MAX_ARMS = 8
LEAST_SHARE = 0.03
MIN_QUERIES = 100
ROUNDS, JUDGED = 2, 4
WORK = sequential.Plan(depth=4, iterations=6, judge_epochs=8, tried=4, judge_width=64, gain_widths=(64, 48), members=1)


@dataclass(frozen=True, slots=True)
class Part:
    """Queries with what is predicted of them and what every action brings: (n, a) all, over the whole catalogue.

    Attributes:
        p_correct: predictions that did not see the outcomes.
        cost_usd: predicted.
        truth: expected outcomes.
        draws: one or more draws of the arms, each (n, arms).
        prompt_tokens: (n, a).
    """

    p_correct: Array
    cost_usd: Array
    truth: Costed
    prompt_tokens: Array
    draws: tuple[Draws, ...] = ()

    def rows(self, index: Rows) -> Part:
        """The queries at `index`, without draws."""
        truth = Costed(self.truth.reward[index], self.truth.tokens[index], self.truth.cost_usd[index])
        return Part(self.p_correct[index], self.cost_usd[index], truth, self.prompt_tokens[index])


class Gain(NamedTuple):
    """(n,) utility of the sequential policy and of the prompt-only router on the same queries."""

    sequential: Array
    router: Array


def useful_arms(part: Part) -> tuple[int, ...]:
    """The actions that the prompt-only router takes for a fair share of queries at some price, at most `MAX_ARMS`, ascending."""
    picks = [choose_rows(part.p_correct, part.cost_usd, multiplier) for multiplier in multiplier_grid(part.cost_usd)]
    a = part.cost_usd.shape[1]
    share = np.stack([np.bincount(pick, minlength=a) / len(pick) for pick in picks]).max(axis=0)
    wanted = [int(arm) for arm in np.argsort(-share, kind="stable")[:MAX_ARMS] if share[arm] >= LEAST_SHARE]
    return tuple(sorted(wanted))


def fit_policy(train: Part, arms: tuple[int, ...], prices: PriceVector, *, scale: float, seed: int) -> SequentialPolicy:
    """Fit on all draws of the training queries.

    Args:
        train: with draws.
        arms: catalogue positions of the drawn actions.
        prices: of the catalogue.
        scale: mean cost of the best fixed action.
        seed: of everything random.
    """
    parts = [episodes(train, draws, arms, prices) for draws in train.draws]
    return fit_sequential(Episodes(*(np.concatenate(each) for each in zip(*parts, strict=True))), scale=scale, plan=WORK, seed=seed)


def episodes(part: Part, draws: Draws, arms: tuple[int, ...], prices: PriceVector) -> Episodes:
    """One draw as the sequential policy meets it."""
    columns = list(arms)
    paid = draws.tokens * prices.output[columns] + part.prompt_tokens[:, columns] * prices.prompt[columns]
    return Episodes.of(part.p_correct[:, columns], draws.answers, draws.reward, part.cost_usd[:, columns], paid)


def spend_at(policy: SequentialPolicy, part: Part, arms: tuple[int, ...], prices: PriceVector, worths: Array) -> Spend:
    """(n, L) what the policy gives at each price of accuracy, averaged over the draws."""
    each = [spend_along(policy, episodes(part, draws, arms, prices), worths) for draws in part.draws]
    return Spend(np.mean([spend.reward for spend in each], axis=0), np.mean([spend.cost for spend in each], axis=0))


def gain(policy: SequentialPolicy, part: Part, arms: tuple[int, ...], prices: PriceVector) -> Gain:
    """Utilities at the prices of accuracy that all policies are compared at."""
    spend = spend_at(policy, part, arms, prices, WORTH)
    own = (spend.reward - spend.cost / (WORTH * policy.scale)).mean(axis=1)
    return Gain(own, policy_utility(part.p_correct, part.cost_usd, part.truth, scale_usd=policy.scale))


def path_of(policy: SequentialPolicy, part: Part, arms: tuple[int, ...], prices: PriceVector) -> MultiplierPath:
    """What each multiplier gave on the part; the accuracy made non-decreasing, as dips are noise of the queries."""
    worths = np.geomspace(*sequential.WORTH, sequential.SETTINGS)
    spend = spend_at(policy, part, arms, prices, worths)
    levels, lengths = pool_adjacent_violators(spend.reward.mean(axis=0), np.ones(len(worths)))
    return MultiplierPath(worths * policy.scale, np.repeat(levels, lengths.astype(int)), spend.cost.mean(axis=0))


def make_plan(policy: SequentialPolicy, part: Part, arms: tuple[int, ...], prices: PriceVector) -> Plan:
    """The policy as a bundle carries it, its path from held-out queries."""
    columns = list(arms)
    own = PriceVector(prices.output[columns], prices.prompt[columns])
    return Plan(policy, arms, path_of(policy, part, arms, prices), own)


class PlanFit(NamedTuple):
    """What came of fitting: the plan, None where it is not to be used, and what the report says."""

    plan: Plan | None
    report: SequentialReport


def fit_sequence(
    bundle: Bundle, data: TrainingSet, log: SampleLog, split: Split, cross_fitted: Array, *, prices: Mapping[str, Price], seed: int
) -> PlanFit:
    """Fit the sequential policy, decide on calibration queries whether to use it, and judge it on test queries.

    Args:
        bundle: with the predictor and the stop rules.
        data: all queries, those of the log first.
        log: the samples.
        split: of the queries.
        cross_fitted: (n_train, a) predictions of the training queries by models that did not see them.
        prices: by model.
        seed: of draws and fits.
    """
    p = bundle.predictor.p_correct(data.features)
    p[split.train] = cross_fitted
    whole = _whole(bundle, data, p, prices)
    parts = {name: rows[_drawable(data.table, log)[rows]] for name, rows in split._asdict().items()}
    calibration = whole.rows(parts["calibration"])
    arms, scale = useful_arms(calibration), scale_usd(calibration.truth)
    if len(arms) < 2 or len(parts["train"]) < MIN_QUERIES:
        why = f"not fitted: {len(arms)} useful actions and {len(parts['train'])} training queries; 2 and {MIN_QUERIES} are needed"
        return PlanFit(None, SequentialReport(actions=_names(data, arms), used=False, reason=why))
    table = _Table(bundle, data, log, price_vector(bundle, prices), arms)
    train, calibration, test = (
        table.drawn(whole, rows, rounds, seed + number)
        for number, (rows, rounds) in enumerate(zip(parts.values(), (ROUNDS, JUDGED, JUDGED), strict=True))
    )
    policy = fit_policy(train, arms, table.prices, scale=scale, seed=seed)
    allowed = gain(policy, calibration, arms, table.prices)
    bound = Bootstrap(len(allowed.router), seed=seed).sure_interval(allowed.sequential - allowed.router)
    plan = make_plan(policy, calibration, arms, table.prices)
    return PlanFit(plan if bound.low > 0 else None, _report(plan, test, table, bound, seed))


@dataclass(frozen=True, slots=True)
class _Table:
    """What draws are made from, and the arms they are made of."""

    bundle: Bundle
    data: TrainingSet
    log: SampleLog
    prices: PriceVector
    arms: tuple[int, ...]

    def drawn(self, whole: Part, rows: Rows, rounds: int, seed: int) -> Part:
        """The queries at `rows` with draws of the arms."""
        part = whole.rows(rows)
        actions = [self.bundle.actions[arm] for arm in self.arms]
        draws = tuple(
            draw(self.log, actions, rows, p_correct=part.p_correct, stops=self.bundle.stops, seed=1000 * seed + number)
            for number in range(rounds)
        )
        return replace(part, draws=draws)


def _whole(bundle: Bundle, data: TrainingSet, p: Array, prices: Mapping[str, Price]) -> Part:
    expected = bundle.predictor.costs.cost_usd(data.features, lengths(data.table.texts), price_vector(bundle, prices))
    return Part(p, expected, costed(data.table, prices), data.table.prompt_tokens)


def _drawable(table: OutcomeTable, log: SampleLog) -> npt.NDArray[np.bool_]:
    """(n,) queries of the log whose every action is known."""
    return table.known_in_full & (np.arange(len(table)) < len(log))


def _report(plan: Plan, test: Part, table: _Table, allowed: Interval, seed: int) -> SequentialReport:
    boot, worths = Bootstrap(len(test.p_correct), seed=seed), plan.path.multiplier / plan.policy.scale
    spend = spend_at(plan.policy, test, plan.arms, table.prices, worths)
    ways = gain(plan.policy, test, plan.arms, table.prices)
    used = allowed.low > 0
    points = [
        SequentialPoint(
            multiplier_usd=float(plan.path.multiplier[at]),
            cost_usd=float(spend.cost[:, at].mean()),
            accuracy=accuracy,
        )
        for at, accuracy in enumerate(boot.shares(spend.reward))
    ]
    bounds = f"{allowed.value:+.4f} (95% interval {allowed.low:+.4f} to {allowed.high:+.4f})"
    told = f"utility over the prompt-only router on calibration queries {bounds}"
    return SequentialReport(
        actions=_names(table.data, plan.arms),
        used=used,
        reason=f"{'used' if used else 'not used'}: {told}",
        points=points,
        gain_over_router=boot.interval(ways.sequential - ways.router),
    )


def _names(data: TrainingSet, arms: tuple[int, ...]) -> list[str]:
    return [data.table.actions[arm] for arm in arms]
