"""A backtest: what a router would have spent and reached on logged queries it was not fitted on, next to its rivals.

Queries are split once by their text, near-duplicates together. Everything is fitted on the one part and judged on the
other, also which fixed action is best. The verdict is `route` only when the router's utility on the test queries beats,
with 95% confidence, both the best fixed action's and that of the same router fitted on shuffled rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import TOKENS_PER_PRICE_UNIT, Price
from rheostat.router.base import Array, FeatureRow
from rheostat.router.features import feature_rows
from rheostat.router.frontier import frontier
from rheostat.training import baselines, rivals
from rheostat.training.baselines import Costed
from rheostat.training.bootstrap import Bootstrap, Interval
from rheostat.training.curves import Spend, aiq, apgr, cost_interval
from rheostat.training.embeddings import unheard
from rheostat.training.fit import Progress, check_table, quiet
from rheostat.training.learners import TrainingSet, fit_costs
from rheostat.training.lexicon import TextRows
from rheostat.training.logged import Codes, Logged
from rheostat.training.outcomes import OutcomeTable, Rows
from rheostat.training.sequential import Episodes, fit_sequential, spend_along
from rheostat.training.split import distinct, positions
from rheostat.training.stack import Stacked, fit_stack

TRAIN_SHARE = 0.7
QUERIES_PER_PRICE = 1000
MIN_ANSWERED = 0.5  # agreement says something only where most answers can be read
MEMBERS_ALONE = ("knn", "kmeans", "logistic", "lightgbm")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A policy at one setting: mean cost a query in the report's unit, accuracy with its 95% interval."""

    cost: float
    accuracy: float
    low: float
    high: float


class Fixed(msgspec.Struct, frozen=True, kw_only=True):
    """The action that was best on the training queries, on the test queries."""

    action: str
    accuracy: float
    cost: float


class PolicyReport(msgspec.Struct, frozen=True, kw_only=True):
    """A policy's undominated settings and what they come to.

    Attributes:
        cost_at_best_fixed_accuracy: None where the policy does not get there.
        cost_ratio: the best fixed action's cost over it, 0 where the policy does not get there; with its interval.
        aiq: mean accuracy over budgets between the cheapest and the dearest fixed action.
        oracle_gap_closed: share of the distance from the mixtures of fixed actions to the oracle, in AIQ.
        apgr: average performance gap recovered; only of policies over two actions.
    """

    points: list[Point]
    cost_at_best_fixed_accuracy: float | None
    cost_ratio: float
    cost_ratio_interval: tuple[float, float]
    aiq: float
    oracle_gap_closed: float
    apgr: float | None = None


class SplitReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the queries were divided."""

    by: str
    seed: int
    n_train: int
    n_test: int


class BacktestReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a backtest, as it is written to JSON."""

    best_fixed: Fixed
    policies: dict[str, PolicyReport]
    verdict: Literal["route", "do not route"]
    utility_gain: Interval
    gain_over_shuffled: Interval
    split: SplitReport
    unit: str
    prices: dict[str, float]
    actions: list[str]
    left_out: dict[str, float]


@dataclass(frozen=True, slots=True)
class Bench:
    """One split of a table, ready to fit on and to judge on.

    Attributes:
        train: features and outcomes of the n training queries.
        features: (m, d) of the test queries.
        before, truth: outcomes and costs of the training and the test queries, costs in the report's unit.
        expected_before, expected: (n, a) and (m, a) costs as predicted from the features.
        names_before, names: data sets of the queries.
        answers_before, answers: answer numbers, or None.
    """

    train: TrainingSet
    features: FeatureRow
    before: Costed
    truth: Costed
    expected_before: Array
    expected: Array
    names_before: np.ndarray[tuple[int, ...], np.dtype[np.str_]]
    names: np.ndarray[tuple[int, ...], np.dtype[np.str_]]
    answers_before: Codes | None
    answers: Codes | None
    seed: int


def backtest(
    logged: Logged, texts: TextRows, *, prices: Mapping[str, Price] | None = None, seed: int = 0, on_progress: Progress = quiet
) -> BacktestReport:
    """Fit the router and its rivals on 70% of the queries and judge them on the others.

    Args:
        logged: complete outcomes.
        texts: of its queries, as an encoder read them.
        prices: by model; tokens are counted when None.
        seed: of the split and of everything fitted.
        on_progress: told the step and the share done.

    Raises:
        DatasetError: too few queries or actions, or rewards that are all the same.
    """
    check_table(logged.table)
    bench = prepare(logged, texts, prices, seed)
    # The control needs nothing of the router: it is fitted next to it, on the second core where there is one.
    with ThreadPoolExecutor(1) as beside:
        pending = beside.submit(fit_stack, _shuffled(bench.train, seed), bench.features, seed=seed)
        stacked = fit_stack(bench.train, bench.features, seed=seed, on_progress=_slice(on_progress, "fit the predictors", 0.0, 0.5))
        in_turn = _sequential(bench, stacked, _slice(on_progress, "sequential policy", 0.5, 0.9))
        on_progress("shuffled control", 0.9)
        control = pending.result()
    on_progress("compare", 0.95)
    report = judge_all(bench, prompt_policies(bench, stacked, control) | in_turn, stacked, control)
    stated = {} if prices is None else {model: price.usd_per_1m_output for model, price in prices.items()}
    return msgspec.structs.replace(
        report, prices=stated, unit="tokens" if prices is None else "USD per thousand queries", left_out=dict(logged.left_out)
    )


def prepare(logged: Logged, texts: TextRows, prices: Mapping[str, Price] | None, seed: int) -> Bench:
    """Split a table and attach features and costs.

    Raises:
        DatasetError: one of the parts is empty.
    """
    table = logged.table
    inside = positions(table.texts, f"backtest-{seed}") < TRAIN_SHARE
    train, test = np.flatnonzero(inside), distinct(table.texts, np.flatnonzero(~inside))
    if not len(train) or not len(test):
        raise DatasetError(f"all {len(table)} queries have the same text: there is nothing to judge on")
    embeddings = texts.worded(train)
    features = feature_rows(embeddings, table.texts)
    known = TrainingSet(features[train], embeddings.shape[1], table.rows(train))
    head = fit_costs(known)
    unit = TOKENS_PER_PRICE_UNIT if prices is None else QUERIES_PER_PRICE

    def costs(rows: Rows) -> tuple[Costed, Array]:
        part = table.rows(rows)
        expected = replace(part, tokens=head.tokens(features[rows])).cost_usd(prices or {})
        return Costed(part.reward, part.tokens, part.cost_usd(prices or {}) * unit), expected * unit

    (before, expected_before), (truth, expected) = costs(train), costs(test)
    names = np.array(table.datasets)
    codes = logged.answers
    return Bench(
        known, features[test], before, truth, expected_before, expected, names[train], names[test],
        None if codes is None else codes[train], None if codes is None else codes[test], seed,
    )  # fmt: skip


def prompt_policies(bench: Bench, stacked: Stacked, control: Stacked) -> dict[str, Spend]:
    """Every policy that decides from the prompt alone."""
    alone = {name: rivals.priced(stacked.members[name], bench.expected, bench.truth) for name in MEMBERS_ALONE}
    return {
        "rheostat": rivals.priced(stacked.held_out, bench.expected, bench.truth),
        "fixed_hull": rivals.fixed_hull(bench.before, bench.truth),
        "segment_means": rivals.segment_means(bench.before, bench.names_before, bench.truth, bench.names),
        **alone,
        "threshold": rivals.threshold(stacked.members["logistic"], bench.before, bench.truth),
        "shuffled": rivals.priced(control.held_out, bench.expected, bench.truth),
        "oracle": rivals.oracle(bench.truth),
    }


def _sequential(bench: Bench, stacked: Stacked, on_progress: Callable[[float], None]) -> dict[str, Spend]:
    """The sequential policy under its name, where enough answers can be read."""
    if bench.answers is None or float((bench.answers >= 0).mean()) < MIN_ANSWERED:
        return {}
    return {"rheostat_sequential": sequential_policy(bench, stacked, on_progress=on_progress)}


def sequential_policy(bench: Bench, stacked: Stacked, *, on_progress: Callable[[float], None] = unheard) -> Spend:
    """The policy that looks at the answers so far before it spends more; the bench must have answers.

    Raises:
        DatasetError: the table was replayed from several samples, so that no single answers exist.
    """
    if bench.answers is None or bench.answers_before is None:
        raise DatasetError("the log has several samples of a cell: the sequential policy needs one answer each")
    train = Episodes.of(stacked.held_in, bench.answers_before, bench.before.reward, bench.expected_before, bench.before.cost_usd)
    test = Episodes.of(stacked.held_out, bench.answers, bench.truth.reward, bench.expected, bench.truth.cost_usd)
    scale = baselines.scale_usd(bench.before)
    return spend_along(fit_sequential(train, scale=scale, seed=bench.seed, on_progress=on_progress), test)


def judge_all(bench: Bench, spends: Mapping[str, Spend], stacked: Stacked, control: Stacked) -> BacktestReport:
    """Policies side by side, all intervals from the same resamples."""
    truth, boot = bench.truth, Bootstrap(len(bench.features), seed=bench.seed)
    best = baselines.best_fixed(bench.before)
    fixed = Spend(truth.reward[:, [best]], truth.cost_usd[:, [best]])
    mean_cost = truth.cost_usd.mean(axis=0)
    span = (float(mean_cost.min()), float(mean_cost.max()))
    worth = {name: aiq(each.cost.mean(axis=0), each.reward.mean(axis=0), *span) for name, each in spends.items()}
    gain, over_shuffled = _gains(bench, stacked, control, boot)
    return BacktestReport(
        best_fixed=Fixed(action=bench.train.table.actions[best], accuracy=float(fixed.reward.mean()), cost=float(fixed.cost.mean())),
        policies={name: _policy(each, fixed, worth[name], worth, bench, boot) for name, each in spends.items()},
        verdict="route" if gain.low > 0 and over_shuffled.low > 0 else "do not route",
        utility_gain=gain,
        gain_over_shuffled=over_shuffled,
        split=SplitReport(by="query text", seed=bench.seed, n_train=len(bench.before.reward), n_test=len(truth.reward)),
        unit="",
        prices={},
        actions=list(bench.train.table.actions),
        left_out={},
    )


def _gains(bench: Bench, stacked: Stacked, control: Stacked, boot: Bootstrap) -> tuple[Interval, Interval]:
    """Utility of the prompt-only router over the best fixed action and over the shuffled control."""
    scale = baselines.scale_usd(bench.before)
    router, shuffled = (
        baselines.policy_utility(each.held_out, bench.expected, bench.truth, scale_usd=scale) for each in (stacked, control)
    )
    fixed = baselines.fixed_utility(bench.before, bench.truth, scale_usd=scale)
    return boot.sure_interval(router - fixed), boot.sure_interval(router - shuffled)


def _policy(spend: Spend, fixed: Spend, own: float, worth: Mapping[str, float], bench: Bench, boot: Bootstrap) -> PolicyReport:
    cost, ratio = cost_interval(spend, fixed, boot)
    gap = worth["oracle"] - worth["fixed_hull"]
    return PolicyReport(
        points=_points(spend, boot),
        cost_at_best_fixed_accuracy=cost if np.isfinite(cost) else None,
        cost_ratio=ratio.value,
        cost_ratio_interval=(ratio.low, ratio.high),
        aiq=own,
        oracle_gap_closed=(own - worth["fixed_hull"]) / gap if gap > 0 else 0.0,
        apgr=_apgr(spend, bench) if bench.truth.reward.shape[1] == 2 else None,
    )


def _points(spend: Spend, boot: Bootstrap) -> list[Point]:
    """The undominated settings, cheapest first."""
    cost, accuracy = spend.cost.mean(axis=0), spend.reward.mean(axis=0)
    kept = frontier(accuracy, cost)
    found = zip(cost[kept], boot.shares(spend.reward[:, kept]), strict=True)
    return [Point(cost=float(paid), accuracy=share.value, low=share.low, high=share.high) for paid, share in found]


def _apgr(spend: Spend, bench: Bench) -> float:
    strong, weak = rivals.pair(bench.before)
    gap = bench.truth.cost_usd[:, strong] - bench.truth.cost_usd[:, weak]
    share = ((spend.cost - bench.truth.cost_usd[:, [weak]]) / np.where(gap == 0, 1.0, gap)[:, None]).mean(axis=0)
    mean = bench.truth.reward.mean(axis=0)
    return apgr(spend.reward.mean(axis=0), share, float(mean[weak]), float(mean[strong]))


def _shuffled(train: TrainingSet, seed: int) -> TrainingSet:
    """Rewards dealt out anew among the queries: costs stay known, what they achieve does not."""
    order = np.random.default_rng(seed).permutation(len(train.table))
    table: OutcomeTable = replace(train.table, reward=train.table.reward[order], weight=train.table.weight[order])
    return replace(train, table=table)


def _slice(on_progress: Progress, step: str, start: float, end: float) -> Callable[[float], None]:
    return lambda share: on_progress(step, start + (end - start) * share)
