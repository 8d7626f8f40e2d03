"""A model's actions on the queries that they share, and what the best of them is worth. Knows rows, no engine and no page.

A choice among actions is made on one half of the queries and judged on the other, and the other way round, so that the
best of many is not better than it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rheostat.data.schema import Action
from rheostat.policies.needs import needs
from rheostat.router.base import Array
from rheostat.training.sweep import Row

Key = tuple[str, str]  # data set and query

ONE_SAMPLE, ONE_CHAIN = "self_consistency(k=1)", "cot"
MILLIONTHS = 1e6
NOT_ITS_OWN = {"verifier", "likely"}  # scorers: the reference, and a larger model that reads for nothing at the prices here
NEARLY_ALL = 0.95  # of the queries: a run that failed must not keep its action from being compared


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """What one model's actions gave on the queries that they share: (n,) keys, (n, L) rewards, costs in millionths of a dollar."""

    model: str
    actions: tuple[str, ...]
    keys: tuple[Key, ...]
    reward: Array
    cost: Array

    def on(self, keys: Collection[Key]) -> Grid:
        """The same on some of its queries."""
        rows = [at for at, key in enumerate(self.keys) if key in keys]
        kept = tuple(self.keys[at] for at in rows)
        return msgspec.structs.replace(self, keys=kept, reward=self.reward[rows], cost=self.cost[rows])

    def find(self, strategy: str) -> int | None:
        """The column of the action that is this strategy in this shape, whatever its cap."""
        return next((at for at, name in enumerate(self.actions) if bare(name) == strategy), None)

    @property
    def fair(self) -> npt.NDArray[np.bool_]:
        """(L,) which actions ask neither another model nor the reference."""
        wanted = [needs(Action.parse(name)) for name in self.actions]
        return np.array([each.models <= {self.model} and not each.scorers & NOT_ITS_OWN for each in wanted])


def grid(model: str, rows: Sequence[Row]) -> Grid:
    """The actions that were run on nearly all queries of a model, on the queries that they share."""
    tables = by_action(rows)
    most = max(len(table) for table in tables.values())
    whole = {name: table for name, table in tables.items() if len(table) >= NEARLY_ALL * most}
    keys = sorted(set.intersection(*(set(table) for table in whole.values())))
    return Grid(
        model=model,
        actions=tuple(whole),
        keys=tuple(keys),
        reward=np.array([[table[key].correct for table in whole.values()] for key in keys]),
        cost=np.array([[table[key].cost_usd * MILLIONTHS for table in whole.values()] for key in keys]),
    )


def chosen_within(held: Grid, usable: npt.NDArray[np.bool_], budget: float, folds: npt.NDArray[np.intp]) -> Array:
    """(n,) rewards of the best action that costs at most `budget`, chosen on the other fold of queries; nought where none does."""
    got = np.zeros(len(held.reward))
    for fold in np.unique(folds):
        elsewhere = folds != fold
        affordable = usable & (held.cost[elsewhere].mean(axis=0) <= budget)
        if affordable.any():
            got[~elsewhere] = held.reward[~elsewhere, best_of(held.reward[elsewhere], affordable)]
    return got


def best_of(reward: Array, usable: npt.NDArray[np.bool_]) -> int:
    """The usable action, some of which there are, with the highest mean of (n, L) rewards."""
    return int(np.where(usable, reward.mean(axis=0), -1.0).argmax())


def by_action(rows: Sequence[Row]) -> dict[str, dict[Key, Row]]:
    """The runs of each action, by query."""
    tables: dict[str, dict[Key, Row]] = defaultdict(dict)
    for row in rows:
        tables[row.action][row.dataset, row.query_id] = row
    return tables


def bare(name: str) -> str:
    """The strategy and shape of an action."""
    return name.partition("/")[2].rpartition("@")[0]
