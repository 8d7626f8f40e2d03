"""A bundle judged on the live log of another router: rows of stores and segments as a logged bandit, rewards cross-fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.data.segment_files import checked_rows
from rheostat.router.base import Array, Encoder
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import sigmoid
from rheostat.router.paths import Paths
from rheostat.router.rules import MultiplierPath, choose_along
from rheostat.router.ruling import FORCED
from rheostat.training.fit import training_set
from rheostat.training.judged import lengths, price_vector
from rheostat.training.learners import TrainingSet, fit_logistic
from rheostat.training.ope import LoggedBandit
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.split import folds
from rheostat.training.tables import live_rows, live_table

N_FOLDS = 3


@dataclass(frozen=True, slots=True)
class LiveLog:
    """Rewarded live rows over a bundle's actions, the tier of each, and how many rows were left out and why."""

    table: OutcomeTable
    tiers: tuple[str, ...]
    counts: dict[str, int]


def read_live(paths: Sequence[Path], bundle: Bundle) -> LiveLog:
    """The rows of the log; those whose action the bundle does not know have no weight, and count all the same.

    A request that failed earned nothing: an action that often fails is worth as much less.

    Raises:
        DatasetError: a file does not fit, no row can be used, or the rows tell nothing apart; says why.
        StoreError: a store cannot be read.
    """
    frame = checked_rows(live_rows(paths), ", ".join(map(str, paths)))
    # What a client forced says nothing about what a router would have been allowed to choose.
    forced = frame["rule"] == FORCED
    frame = frame.filter(~forced.fill_null(False))
    # An unclipped weight is 1 / propensity: clipping would hide what the estimators have to weigh.
    table, counts = live_table(frame, [str(action) for action in bundle.actions], max_weight=np.inf, of_all=True)
    counts |= {"forced by the client": int(forced.sum())} if forced.any() else {}
    if not (table.weight > 0).any():
        why = ", ".join(f"{count} {fate}" for fate, count in counts.items()) or "the log is empty"
        raise DatasetError(
            f'no live row can be used ({why}): rewards are needed, texts (store_prompts = "full"), and actions that the bundle knows'
        )
    _check_informative(table)
    tiers = dict(frame.filter(frame["tier"].is_not_null()).select("decision_id", "tier").iter_rows())
    return LiveLog(table, tuple(tiers[name] for name in table.query_ids), counts)


def _check_informative(table: OutcomeTable) -> None:
    """Refuse a log that no interval could be drawn from."""
    n_known = int((table.weight > 0).any(axis=1).sum())
    if len(set(table.texts)) < 2:
        raise DatasetError(f"all {len(table)} usable rows ask the same question: queries are what is resampled, log different ones")
    rewards = table.reward[table.weight > 0]
    if rewards.min() == rewards.max():
        raise DatasetError(f"reward is {rewards[0]:g} in all {n_known} usable rows: nothing tells actions apart, check how it is given")


def logged_bandit(
    log: LiveLog, bundle: Bundle, *, target: float, prices: Mapping[str, Price], encoder: Encoder | None = None
) -> LoggedBandit:
    """The log against what the bundle would choose under the `average` rule and its guard, without exploring.

    Args:
        log: rows over the bundle's actions.
        bundle: the policy.
        target: accuracy the policy is asked for.
        prices: by model.
        encoder: the bundle's where it is loaded already.
    """
    table = log.table
    multiplier, _ = held_out_path(bundle, prices).for_target(target)
    picks = picks_of(bundle, table, prices, [multiplier], encoder=encoder)[:, 0]
    rows, known, n_actions = np.arange(len(table)), (table.weight > 0).any(axis=1), len(table.actions)
    taken = table.weight.argmax(axis=1)
    return LoggedBandit(
        # What the bundle does not know is one action more, which it never takes.
        action=np.where(known, taken, n_actions),
        reward=table.reward[rows, taken],
        propensity=1.0 / np.where(known, table.weight[rows, taken], 1.0),
        p_eval=np.eye(n_actions, n_actions + 1)[picks],
        query=np.unique(table.texts, return_inverse=True)[1].reshape(-1),
    )


def picks_of(
    bundle: Bundle, table: OutcomeTable, prices: Mapping[str, Price], multipliers: Iterable[float], *, encoder: Encoder | None = None
) -> npt.NDArray[np.intp]:
    """(n, L) the action a bundle takes on each query at each of L multipliers; the guard's far from what it was trained on."""
    data, predictor = training_set(table, encoder or bundle.encoder), bundle.predictor
    p = predictor.p_correct(data.features)
    cost = predictor.costs.cost_usd(data.features, lengths(table.texts), price_vector(bundle, prices))
    far = bundle.guard.far(data.features[:, : data.dimension])
    return np.where(far[:, None], bundle.guard.action, choose_along(p, cost, multipliers))


def held_out_path(bundle: Bundle, prices: Mapping[str, Price]) -> MultiplierPath:
    """What each multiplier gave on the queries the bundle keeps, at today's prices."""
    paths = Paths(bundle, price_vector(bundle, prices))
    return paths.of(paths.every)


def modelled_rewards(table: OutcomeTable, encoder: Encoder, *, seed: int = 0) -> Array:
    """(n, a + 1) rewards of every action by logistic regression, each row's fitted on the other folds' texts.

    The last column is for what no bundle takes; see `logged_bandit`.
    """
    data = training_set(table, encoder)
    q = np.zeros(table.reward.shape)
    for part in folds(table.texts, N_FOLDS, seed=seed):
        rest = np.setdiff1d(np.arange(len(table)), part)
        q[part] = _fitted(data, rest, part, seed) if len(rest) else 0.5
    return np.column_stack([q, np.zeros(len(q))])


def _fitted(data: TrainingSet, rest: np.ndarray, part: np.ndarray, seed: int) -> Array:
    return sigmoid(fit_logistic(data.rows(rest), seed).logits(data.features[part]))
