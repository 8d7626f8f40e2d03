"""Does the promise hold? Many splits of a log into calibration and test queries, a promise made on each, and the truth.

The router is fitted on queries that are in neither part, a few times anew; given that fit each policy is a fixed
function, and calibration and test queries are exchangeable, which is all the guarantee asks for. So splits are cheap and
the check exact. Questions with the same text stay on one side. Segments of the table are promised and checked one by one,
each with a multiplier of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from rheostat.data.answers import infer_kind
from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.router.base import Array, Encoder
from rheostat.router.promises import least_queries
from rheostat.router.rules import choose_along, multiplier_grid
from rheostat.training.fit import CANDIDATES, MIN_QUERIES, Progress, check_table, fit_predictor, quiet, training_set
from rheostat.training.guarantee import Certificate, certify, is_binary, p_values, walk
from rheostat.training.learners import TrainingSet
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.split import Split, distinct, positions

N_FITS = 4
TRAIN_SHARE = 0.4
PLATT_SHARE = 0.1
CALIBRATION_SHARE = 0.2  # of the queries that were not trained on; the rest is test, large so that its own noise is small
GRID_SIZE = 400
LEARNER = "logistic+lightgbm"

# What a table can be segmented by, and the segment of each of its queries.
SEGMENTS: dict[str, Callable[[OutcomeTable], Sequence[str]]] = {
    "dataset": lambda table: table.datasets,
    "kind": lambda table: [infer_kind(text) for text in table.texts],
    "level": lambda table: [str(level) for level in table.levels],
    "none": lambda _: (),
}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What the promises came to over all splits.

    Attributes:
        miss_rate: share of splits whose promised accuracy was not reached on the test queries.
        miss_rate_allowed: what a promise that fails with chance delta in truth shows on test queries of this number, in
            this number of splits (see `allowed_miss_rate`).
        plugin_miss_rate: the same share for the cheapest policy that met the target on the calibration queries.
        mean_accuracy: on the test queries, over feasible splits; None where there is none.
        excess: by how much that exceeds the target; `excess_allowed` is 2 sqrt(target (1 - target) / n_calibration).
        cost_ratio_vs_plugin: mean cost over that of the plug-in, where both found a policy; None where there is none, or it costs nothing.
        infeasible_rate: share of splits where nothing could be promised.
        attainable: mean accuracy of the dearest policy.
        certificate: what all queries outside the first fit promise together.
        segments: the same for each segment by itself.
        too_small: segments whose share of calibration queries could not prove the target if every answer were right, with
            their number of queries.
    """

    target: float
    delta: float
    splits: int
    fits: int
    n_train: int
    n_calibration: int
    n_test: int
    miss_rate: float
    miss_rate_allowed: float
    plugin_miss_rate: float
    mean_accuracy: float | None
    excess: float | None
    excess_allowed: float
    cost_ratio_vs_plugin: float | None
    infeasible_rate: float
    attainable: float
    certificate: Certificate
    segments: dict[str, Check] = {}
    too_small: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Pool:
    """Queries outside a fit, under every policy of its path, cheapest first.

    Attributes:
        reward, cost: (n, L).
        group: (n,) number of the query's text, from 0 without gaps.
        row: (n,) number of the query in the table.
    """

    reward: Array
    cost: Array
    group: npt.NDArray[np.intp]
    row: npt.NDArray[np.intp]

    def only(self, rows: npt.NDArray[np.intp]) -> Pool:
        """The queries among these rows of the table."""
        inside = np.isin(self.row, rows)
        group = np.unique(self.group[inside], return_inverse=True)[1]
        return Pool(self.reward[inside], self.cost[inside], group, self.row[inside])


class Promise(NamedTuple):
    """What is promised: an accuracy, the chance allowed of promising too much, and on how many splits."""

    target: float
    delta: float
    splits: int
    seed: int


@dataclass(frozen=True, slots=True)
class Promises:
    """One row a split: the accuracy and cost of what was picked on the test queries, NaN where nothing could be."""

    accuracy: Array
    cost: Array
    plugin_accuracy: Array
    plugin_cost: Array
    n_calibration: Array
    n_test: Array


def check_guarantee(
    table: OutcomeTable,
    encoder: Encoder,
    *,
    target: float,
    delta: float = 0.1,
    splits: int = 200,
    prices: Mapping[str, Price] | None = None,
    segments: Sequence[str] = (),
    seed: int = 0,
    n_fits: int = N_FITS,
    on_progress: Progress = quiet,
) -> Check:
    """Promise a target on many splits of a complete table and hold each promise against its test queries.

    Args:
        table: every action's outcome on every query.
        encoder: text to vectors.
        target: accuracy to promise, in (0, 1).
        delta: chance allowed of promising too much.
        splits: how many, shared out evenly among the fits.
        prices: by model; tokens cost 1 USD per million without.
        segments: the name of each query's segment; none to check only the whole.
        seed: of fits and splits.
        n_fits: routers fitted, each on other queries.
        on_progress: told the step and the share done.

    Raises:
        DatasetError: the table cannot be learned from, or target or delta is outside (0, 1).
    """
    _check_levels(target, delta)
    pools = fit_pools(table, encoder, prices=prices or {}, seed=seed, n_fits=n_fits, on_progress=on_progress)
    on_progress("promise", 0.9)
    check = check_pools(pools, Promise(target, delta, splits, seed), n=len(table), segments=segments)
    on_progress("done", 1.0)
    return check


def fit_pools(
    table: OutcomeTable,
    encoder: Encoder,
    *,
    prices: Mapping[str, Price],
    seed: int = 0,
    n_fits: int = N_FITS,
    on_progress: Progress = quiet,
) -> list[Pool]:
    """Routers fitted on some of a table's queries, and what their policies give on the others; see `check_guarantee`."""
    check_table(table)
    on_progress("embed", 0.0)
    data = training_set(table, encoder)
    pools = []
    for number in range(n_fits):
        on_progress(f"fit {number + 1} of {n_fits}", 0.1 + 0.8 * number / n_fits)
        pools.append(fitted_pool(data, prices, seed=seed * n_fits + number))
    return pools


def check_pools(pools: Sequence[Pool], promise: Promise, *, n: int, segments: Sequence[str] = ()) -> Check:
    """Hold a promise against the queries of some pools, whole and by segment.

    Args:
        pools: of one table.
        promise: what is promised.
        n: queries of the table.
        segments: the name of each query's segment; none to check only the whole.

    Raises:
        DatasetError: target or delta is outside (0, 1).
    """
    _check_levels(promise.target, promise.delta)
    whole = _checked(pools, n, promise)
    parts, too_small = _by_segment(pools, np.array(segments), promise)
    return msgspec.structs.replace(whole, segments=parts, too_small=too_small)


def _check_levels(target: float, delta: float) -> None:
    for name, value in (("target", target), ("delta", delta)):
        if not 0 < value < 1:
            raise DatasetError(f"{name} is {value:g}: it must lie between 0 and 1, ends excluded")


def _by_segment(pools: Sequence[Pool], names: npt.NDArray[np.str_], promise: Promise) -> tuple[dict[str, Check], dict[str, int]]:
    """The check of each segment, and the sizes of those too small for one."""
    checks, too_small = {}, {}
    needed = least_queries(promise.target, promise.delta)
    for name in sorted(set(names.tolist())):
        rows = np.flatnonzero(names == name)
        kept = [pool.only(rows) for pool in pools]
        smallest = min(len(np.unique(pool.group)) for pool in kept)
        if round(CALIBRATION_SHARE * smallest) < needed:
            too_small[name] = len(rows)
        else:
            checks[name] = _checked(kept, len(rows), promise)
    return checks, too_small


def _checked(pools: Sequence[Pool], n: int, promise: Promise) -> Check:
    """Promises on the queries of some pools, the splits shared out among them; `n` counts those that were fitted on too."""
    made = []
    for number, pool in enumerate(pools):
        share, seed = len(range(number, promise.splits, len(pools))), promise.seed * len(pools) + number
        made.append(promised(pool, promise.target, promise.delta, splits=share, binary=is_binary(pool.reward), seed=seed))
    joined = Promises(*(np.concatenate([getattr(each, name) for each in made]) for name in Promises.__slots__))
    attainable = float(np.mean([pool.reward[:, -1].mean() for pool in pools]))
    certificate = certify(pools[0].reward, target=promise.target, delta=promise.delta)
    return _summary(joined, promise, certificate, fits=len(pools), n=n, attainable=attainable)


def fitted_pool(data: TrainingSet, prices: Mapping[str, Price], *, seed: int) -> Pool:
    """Fit a router on some of the queries and run its path of multipliers on all others.

    Raises:
        DatasetError: too few different questions to train on and to test with.
    """
    table = data.table
    place = positions(table.texts, f"guarantee-{seed}")
    train, platt = place < TRAIN_SHARE, (place >= TRAIN_SHARE) & (place < TRAIN_SHARE + PLATT_SHARE)
    rest = distinct(table.texts, np.flatnonzero(~train & ~platt))  # a copy of a question is no evidence of its own
    if min(train.sum(), platt.sum() * 4, len(rest)) < MIN_QUERIES:
        raise DatasetError(f"{len(table)} queries leave {len(rest)} outside the fit: a guarantee needs more different questions")
    split = Split(np.flatnonzero(train), np.flatnonzero(platt), rest)
    predictor = fit_predictor(data, split, CANDIDATES[LEARNER], seed)
    expected = predictor.costs.tokens(data.features)
    price = replace(table, tokens=expected).cost_usd(prices)
    grid = multiplier_grid(price[train], GRID_SIZE)
    p = predictor.p_correct(data.features[rest])
    picks = choose_along(p, price[rest], grid)
    truth = table.rows(rest)
    groups = np.unique(np.round(place[rest], 12), return_inverse=True)[1]
    return Pool(np.take_along_axis(truth.reward, picks, 1), np.take_along_axis(truth.cost_usd(prices), picks, 1), groups, rest)


def promised(pool: Pool, target: float, delta: float, *, splits: int, binary: bool, seed: int) -> Promises:
    """Split a pool at random, promise on the calibration part, look at the test part; once for every split."""
    calibration = _drawn(pool.group, splits, seed)
    n = calibration.sum(axis=1)
    n_test = calibration.shape[1] - n
    inside = calibration.astype(np.float64)
    total, spent = inside @ pool.reward, inside @ pool.cost
    test_accuracy = (pool.reward.sum(axis=0) - total) / n_test[:, None]
    test_cost = (pool.cost.sum(axis=0) - spent) / n_test[:, None]
    safe = walk(p_values(total, n[:, None].astype(np.float64), target, binary=binary), delta).index
    plugin = _first(total / n[:, None] >= target)
    return Promises(
        accuracy=_at(test_accuracy, safe),
        cost=_at(test_cost, safe),
        plugin_accuracy=_at(test_accuracy, plugin),
        plugin_cost=_at(test_cost, plugin),
        n_calibration=n.astype(np.float64),
        n_test=n_test.astype(np.float64),
    )


def allowed_miss_rate(delta: float, *, n_calibration: float, n_test: float, splits: int) -> float:
    """The miss rate a guarantee at level delta may show when the truth is only known from test queries.

    The cheapest policy that passes sits where its calibration accuracy exceeds the target by z_delta standard errors. Its
    test accuracy falls below the target when the errors of both parts together exceed that: with chance
    Phi(-z_delta / sqrt(1 + n_calibration / n_test)), which is delta for an endless test. Two standard errors for the
    finite number of splits come on top.
    """
    from scipy.stats import norm

    rate = float(norm.sf(norm.isf(delta) / math.sqrt(1 + n_calibration / n_test)))
    return rate + 2 * math.sqrt(rate * (1 - rate) / splits)


def _summary(promises: Promises, promise: Promise, certificate: Certificate, *, fits: int, n: int, attainable: float) -> Check:
    target, delta = promise.target, promise.delta
    found = ~np.isnan(promises.accuracy)
    both = found & ~np.isnan(promises.plugin_accuracy)
    splits, n_calibration, n_test = len(found), float(promises.n_calibration.mean()), float(promises.n_test.mean())
    accuracy = float(promises.accuracy[found].mean()) if found.any() else None
    paid = float(promises.plugin_cost[both].mean()) if both.any() else 0.0
    ratio = float(promises.cost[both].mean()) / paid if paid > 0 else None
    return Check(
        target=target,
        delta=delta,
        splits=splits,
        fits=fits,
        n_train=round(n - n_calibration - n_test),
        n_calibration=round(n_calibration),
        n_test=round(n_test),
        miss_rate=float((promises.accuracy < target).mean()),
        miss_rate_allowed=allowed_miss_rate(delta, n_calibration=n_calibration, n_test=n_test, splits=splits),
        plugin_miss_rate=float((promises.plugin_accuracy < target).mean()),
        mean_accuracy=accuracy,
        excess=None if accuracy is None else accuracy - target,
        excess_allowed=2 * math.sqrt(target * (1 - target) / n_calibration),
        cost_ratio_vs_plugin=ratio,
        infeasible_rate=float((~found).mean()),
        attainable=attainable,
        certificate=certificate,
    )


def _drawn(group: npt.NDArray[np.intp], splits: int, seed: int) -> npt.NDArray[np.bool_]:
    """(splits, n) which queries calibrate: whole groups, a share of `CALIBRATION_SHARE` of them."""
    rng = np.random.default_rng(seed)
    n_groups = int(group.max()) + 1
    n_drawn = max(1, round(CALIBRATION_SHARE * n_groups))
    rank = rng.random((splits, n_groups)).argsort(axis=1).argsort(axis=1)
    return np.asarray((rank < n_drawn)[:, group])


def _first(meets: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """(s,) first column that is true, -1 where none is."""
    return np.where(meets.any(axis=1), meets.argmax(axis=1), -1)


def _at(values: Array, index: npt.NDArray[np.intp]) -> Array:
    """(s,) one column of each row, NaN where the index is -1."""
    return np.where(index >= 0, values[np.arange(len(values)), index], np.nan)
