"""Fitting the learned stop rule: optimal stopping by regression, backwards over replayed runs.

Stopping after n samples is worth the reward of the leading answer; going on costs a price a sample and is worth what the
later decisions bring. From the last look backwards, the difference of the two is regressed on the votes and the prior,
and its sign decides. Hopeless queries stop early like easy ones: going on changes nothing there. A rule is only taken
where, on runs it was not fitted on, it is no worse than the published rule with as many samples.
Source: Longstaff and Schwartz 2001 (least-squares Monte Carlo).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rheostat.policies.learned_stop import VOTE_FEATURES
from rheostat.router.booster_text import parse_booster
from rheostat.router.stopping import StopPolicy
from rheostat.router.trees import Trees
from rheostat.training.outcomes import Array
from rheostat.training.trajectories import Trajectories

Rows = npt.NDArray[np.intp]
Stops = npt.NDArray[np.bool_]

# Slow and coarse: the runs are many, but far fewer are the questions that they come from.
ROUNDS = 80
_SETTINGS = {
    "objective": "l2",
    "learning_rate": 0.07,
    "num_leaves": 6,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
LEAF_SHARE = 0.03
MIN_LEAF = 20
CHECK_SHARE = 0.3
LEADS = (0, 1, 2, 3, 4, 6)  # 0 stops at the first look: what a rule with as few samples is held against


@dataclass(frozen=True, slots=True)
class Watched:
    """Replayed runs and what is known beforehand.

    Attributes:
        runs: r runs of K samples.
        prior: (r, m) of each run's query; m may be 0.
        query: (r,) number of the run's query: runs of one query are never on both sides of a check.
    """

    runs: Trajectories
    prior: Array
    query: Rows

    def rows(self, index: Rows | npt.NDArray[np.bool_]) -> Watched:
        """The runs at `index`."""
        return Watched(self.runs.rows(index), self.prior[index], self.query[index])

    @property
    def blind(self) -> Watched:
        """The same runs, nothing known beforehand."""
        return Watched(self.runs, self.prior[:, :0], self.query)


class Spent(NamedTuple):
    """Mean samples and mean reward of a rule."""

    samples: float
    reward: float


def fit_stopping(
    runs: Trajectories, prior: Array, *, price: float, looks: Sequence[int] = (), seed: int = 0, min_leaf: int = MIN_LEAF
) -> StopPolicy:
    """The stop policy that maximises reward - price x samples.

    Args:
        runs: replayed runs, r of K samples.
        prior: (r, m) what is known of each run's query beforehand; m may be 0.
        price: of a sample, in reward, at least 0.
        looks: after how many samples it may stop, ascending, the last being K; after each when empty.
        seed: of the boosters.
        min_leaf: fewest runs in a leaf.
    """
    looks = looks or range(1, runs.depth + 1)
    steps: list[Trees | None] = [None] * (runs.depth - 1)
    onward, later = runs.value[:, -1], runs.depth
    for drawn in reversed(looks[:-1]):
        onward = onward - price * (later - drawn)
        now, rows = runs.value[:, drawn - 1], state_rows(runs, prior, drawn)
        booster = _regression(rows, now - onward, seed, min_leaf)
        steps[drawn - 1] = parse_booster(booster.model_to_string()).trees
        onward, later = np.where(booster.predict(rows, num_threads=1) >= 0, now, onward), drawn
    return StopPolicy(tuple(steps), prior.shape[1])


def fit_checked(data: Watched, *, price: float, looks: Sequence[int] = (), seed: int = 0) -> StopPolicy | None:
    """The stop policy for a price that keeps up with the published rule on queries it has not seen.

    Without the prior, unless a policy that knows it is worth more there; None where neither keeps up.

    Args:
        data: replayed runs.
        price: of a sample, in reward.
        looks: after how many samples a rule may stop; after each when empty.
        seed: of the check's split and the boosters.
    """
    inside = _drawn_queries(data.query, seed)
    min_leaf = MIN_LEAF * max(1, len(data.query) // max(len(np.unique(data.query)), 1) // 2)
    worth: list[tuple[float, Watched]] = []
    for each in [data.blind, data] if data.prior.shape[1] else [data]:
        fitting, held = each.rows(~inside), each.rows(inside)
        tried = fit_stopping(fitting.runs, fitting.prior, price=price, looks=looks, seed=seed, min_leaf=min_leaf)
        found = spent(held.runs, learned_stops(tried, held.runs, held.prior))
        if keeps_up(found, held.runs, looks):
            worth.append((found.reward - price * found.samples, each))
    if not worth:
        return None
    chosen = max(worth, key=lambda entry: entry[0])[1]
    return fit_stopping(chosen.runs, chosen.prior, price=price, looks=looks, seed=seed, min_leaf=min_leaf)


def keeps_up(rule: Spent, runs: Trajectories, looks: Sequence[int] = ()) -> bool:
    """Whether a rule's reward is no less than that of lead(m), mixed over m, with as many samples on the same runs."""
    leads = [spent(runs, lead_stops(runs, lead, looks)) for lead in LEADS]
    return rule.reward >= float(np.interp(rule.samples, [lead.samples for lead in leads], [lead.reward for lead in leads]))


def lead_stops(runs: Trajectories, lead: int, looks: Sequence[int] = ()) -> Stops:
    """(r, K) where a leader is `lead` votes ahead, at the looks only, and at the end."""
    stops = runs.first - runs.second >= lead
    if looks:
        stops &= np.isin(np.arange(1, runs.depth + 1), looks)
    stops[:, -1] = True
    return np.asarray(stops)


def learned_stops(policy: StopPolicy, runs: Trajectories, prior: Array) -> Stops:
    """(r, K) where the policy stops: from there on true, so that only runs still going need to be weighed."""
    stops = np.zeros(runs.value.shape, dtype=bool)
    going = np.arange(len(runs))
    for drawn in range(1, runs.depth + 1):
        ended = policy.advantage(state_rows(runs, prior, drawn)[going], drawn) >= 0
        stops[going[ended], drawn - 1 :] = True
        going = going[~ended]
    return stops


def spent(runs: Trajectories, stops: Stops) -> Spent:
    """What stopping at the first true column of (r, K) `stops` costs and brings on average."""
    at = stops.argmax(axis=1)
    return Spent(float(at.mean()) + 1, float(runs.value[np.arange(len(runs)), at].mean()))


def state_rows(runs: Trajectories, prior: Array, drawn: int) -> Array:
    """(r, N_VOTES + m) rows for `StopPolicy.advantage` after `drawn` samples."""
    votes = [getattr(runs, name)[:, drawn - 1] for name in VOTE_FEATURES]
    return np.column_stack([*votes, prior]).astype(np.float64)


def _drawn_queries(query: Rows, seed: int) -> npt.NDArray[np.bool_]:
    """(r,) which runs are of the queries kept for the check."""
    names, where = np.unique(query, return_inverse=True)
    chance = np.random.default_rng(seed).permutation(len(names)) < max(1, round(CHECK_SHARE * len(names)))
    return np.asarray(chance[where.reshape(-1)])


def _regression(rows: Array, target: Array, seed: int, min_leaf: int) -> Any:
    import lightgbm

    leaf = max(min_leaf, round(LEAF_SHARE * len(rows)))
    data = lightgbm.Dataset(rows, label=target, free_raw_data=True)
    return lightgbm.train(_SETTINGS | {"seed": seed, "min_data_in_leaf": leaf}, data, num_boost_round=ROUNDS)
