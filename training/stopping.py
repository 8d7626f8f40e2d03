"""Fitting the learned stop rule: optimal stopping by regression, backwards over replayed runs.

Stopping after n samples is worth the reward of the leading answer; going on costs a price a sample and is worth what the
later decisions bring. From the last sample backwards, the difference of the two is regressed on the votes and the prior,
and its sign decides. Hopeless queries stop early like easy ones: going on changes nothing there.
Source: Longstaff and Schwartz 2001 (least-squares Monte Carlo).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rheostat.policies.learned_stop import VOTE_FEATURES, LearnedStop
from rheostat.training.outcomes import Array
from rheostat.training.trajectories import Trajectories

ROUNDS = 40
_SETTINGS = {
    "objective": "l2",
    "learning_rate": 0.15,
    "num_leaves": 8,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
LEAF_SHARE = 0.01
MIN_LEAF = 20


def fit_stopping(runs: Trajectories, prior: Array, *, price: float, seed: int = 0) -> LearnedStop:
    """The stop policy that maximises reward - price x samples.

    Args:
        runs: replayed runs, r of K samples.
        prior: (r, m) what is known of each run's query beforehand; m may be 0.
        price: of a sample, in reward, at least 0.
        seed: of the boosters.
    """
    steps: list[str] = []
    onward = runs.value[:, -1]
    for drawn in range(runs.depth - 1, 0, -1):
        onward = onward - price
        now = runs.value[:, drawn - 1]
        rows = state_rows(runs, prior, drawn)
        booster = _regression(rows, now - onward, seed)
        steps.append(booster.model_to_string())
        onward = np.where(booster.predict(rows, num_threads=1) >= 0, now, onward)
    return LearnedStop(tuple(reversed(steps)), prior.shape[1])


def learned_stops(policy: LearnedStop, runs: Trajectories, prior: Array) -> npt.NDArray[np.bool_]:
    """(r, K) where the policy would stop."""
    columns = [policy.advantage(state_rows(runs, prior, drawn), drawn) >= 0 for drawn in range(1, runs.depth + 1)]
    return np.stack(columns, axis=1)


def state_rows(runs: Trajectories, prior: Array, drawn: int) -> Array:
    """(r, 5 + m) rows for `LearnedStop.advantage` after `drawn` samples."""
    votes = [getattr(runs, name)[:, drawn - 1] for name in VOTE_FEATURES]
    return np.column_stack([*votes, prior]).astype(np.float64)


def _regression(rows: Array, target: Array, seed: int):  # type: ignore[no-untyped-def]
    import lightgbm

    leaf = max(MIN_LEAF, round(LEAF_SHARE * len(rows)))
    data = lightgbm.Dataset(rows, label=target, free_raw_data=True)
    return lightgbm.train(_SETTINGS | {"seed": seed, "min_data_in_leaf": leaf}, data, num_boost_round=ROUNDS)
