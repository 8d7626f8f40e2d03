"""A bundle judged on the live log of another router: rows of stores and segments as a logged bandit, rewards cross-fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Price
from rheostat.router.base import Array, Encoder
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import sigmoid
from rheostat.router.rules import MultiplierPath, choose_rows
from rheostat.training.evaluate import judge
from rheostat.training.fit import training_set
from rheostat.training.learners import TrainingSet, fit_logistic
from rheostat.training.ope import LoggedBandit
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.split import folds
from rheostat.training.tables import live_rows, live_table

N_FOLDS = 3


@dataclass(frozen=True, slots=True)
class LiveLog:
    """Rewarded live rows over a bundle's actions, and how many rows were left out and why."""

    table: OutcomeTable
    counts: dict[str, int]


def read_live(paths: Sequence[Path], bundle: Bundle) -> LiveLog:
    """The rows whose action the bundle knows.

    Raises:
        DatasetError: a file does not fit, or no row can be used; says why.
        StoreError: a store cannot be read.
    """
    frame = live_rows(paths)
    # An unclipped weight is 1 / propensity: clipping would hide what the estimators have to weigh.
    table, counts = live_table(frame, [str(action) for action in bundle.actions], max_weight=np.inf)
    if not len(table):
        why = ", ".join(f"{count} {fate}" for fate, count in counts.items()) or "the log is empty"
        raise DatasetError(f"no live row can be used ({why}): rewards and prompt texts are needed, and actions that the bundle knows")
    return LiveLog(table, counts)


def logged_bandit(
    log: LiveLog, bundle: Bundle, *, target: float, prices: Mapping[str, Price], encoder: Encoder | None = None
) -> LoggedBandit:
    """The log against what the bundle would choose under the `average` rule without exploring.

    Args:
        log: rows over the bundle's actions.
        bundle: the policy.
        target: accuracy the policy is asked for.
        prices: by model.
        encoder: the bundle's where it is loaded already.
    """
    table = log.table
    judged = judge(bundle, table, prices, encoder=encoder)
    held = bundle.held_out
    cost = OutcomeTable.cost_usd(_held_table(table, bundle), prices)
    multiplier, _ = MultiplierPath.of(held.p_correct, cost, held.reward).for_target(target)
    picks = choose_rows(judged.p_correct, judged.cost_usd, multiplier)
    taken = table.weight.argmax(axis=1)
    rows = np.arange(len(table))
    return LoggedBandit(
        action=taken,
        reward=table.reward[rows, taken],
        propensity=1.0 / table.weight[rows, taken],
        p_eval=np.eye(len(table.actions))[picks],
        query=np.unique(table.texts, return_inverse=True)[1].reshape(-1),
    )


def modelled_rewards(table: OutcomeTable, encoder: Encoder, *, seed: int = 0) -> Array:
    """(n, a) rewards of every action by logistic regression, each row's fitted on the other folds' texts."""
    data = training_set(table, encoder)
    q = np.zeros(table.reward.shape)
    for part in folds(table.texts, N_FOLDS, seed=seed):
        rest = np.setdiff1d(np.arange(len(table)), part)
        q[part] = _fitted(data, rest, part, seed) if len(rest) else 0.5
    return q


def _fitted(data: TrainingSet, rest: np.ndarray, part: np.ndarray, seed: int) -> Array:
    return sigmoid(fit_logistic(data.rows(rest), seed).logits(data.features[part]))


def _held_table(table: OutcomeTable, bundle: Bundle) -> OutcomeTable:
    """The bundle's held-out queries as a table, for their costs."""
    held, n = bundle.held_out, len(bundle.held_out.reward)
    ones = np.ones_like(held.reward)
    return OutcomeTable(
        query_ids=tuple(map(str, range(n))),
        texts=("",) * n,
        datasets=("",) * n,
        levels=(0,) * n,
        actions=table.actions,
        reward=held.reward,
        tokens=held.tokens,
        prompt_tokens=held.prompt_tokens,
        latency_s=ones,
        weight=ones,
    )
