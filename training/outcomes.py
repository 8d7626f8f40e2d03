"""The outcome table: what every action gave on every query. Everything that learns or judges eats this.

Full-information rows come from replay, partial ones from live traffic: a cell that was not observed has weight 0, one
observed with propensity q has weight 1/q. Knows nothing of samples, encoders or learners.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import TOKENS_PER_PRICE_UNIT, Price
from rheostat.data.npz import read_npz
from rheostat.data.schema import Action

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
QUERY_FIELDS = ("query_ids", "texts", "datasets", "levels")
CELLS = ("reward", "tokens", "prompt_tokens", "latency_s", "weight")


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Expected outcomes of `a` actions on `n` queries.

    Attributes:
        query_ids: n ids, unique together with `datasets`.
        actions: a spellings in catalogue order.
        reward: (n, a) expected reward in [0, 1].
        tokens: (n, a) expected generated tokens.
        prompt_tokens: (n, a) prompt tokens, the shared prompt counted once.
        latency_s: (n, a) expected seconds.
        weight: (n, a) 0 where not observed, 1 where known in full, 1/propensity where logged by a policy.
    """

    query_ids: tuple[str, ...]
    texts: tuple[str, ...]
    datasets: tuple[str, ...]
    levels: tuple[int, ...]
    actions: tuple[str, ...]
    reward: Array
    tokens: Array
    prompt_tokens: Array
    latency_s: Array
    weight: Array

    def __post_init__(self) -> None:
        shape = (len(self.query_ids), len(self.actions))
        for name in CELLS:
            _check_cells(name, getattr(self, name), shape)
        observed = self.reward[self.weight > 0]
        if observed.size and (observed.min() < 0 or observed.max() > 1):
            raise DatasetError(f"rewards range from {observed.min():g} to {observed.max():g}: scale them into [0, 1]")

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def known_in_full(self) -> npt.NDArray[np.bool_]:
        """(n,) which queries have an outcome of every action."""
        return np.asarray((self.weight > 0).all(axis=1))

    def rows(self, index: Rows) -> OutcomeTable:
        """The table of the queries at `index`, in that order."""
        pick: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in index) for name in QUERY_FIELDS}
        return replace(self, **pick, **{name: getattr(self, name)[index] for name in CELLS})

    def only(self, actions: Sequence[str]) -> OutcomeTable:
        """The table of some of the actions.

        Raises:
            DatasetError: an action is not in the table.
        """
        missing = [action for action in actions if action not in self.actions]
        if missing:
            raise DatasetError(f"the table has no outcomes of {missing[0]!r}; it knows {', '.join(self.actions)}")
        columns = [self.actions.index(action) for action in actions]
        return replace(self, actions=tuple(actions), **{name: getattr(self, name)[:, columns] for name in CELLS})

    def cost_usd(self, prices: Mapping[str, Price]) -> Array:
        """(n, a) USD at the price of each action's model; a model without a price costs 1 USD per million tokens out."""
        models = [Action.parse(action).model for action in self.actions]
        priced = [prices.get(model, Price()) for model in models]
        output = np.array([price.usd_per_1m_output for price in priced])
        prompt = np.array([price.usd_per_1m_input for price in priced])
        return np.asarray((self.tokens * output + self.prompt_tokens * prompt) / TOKENS_PER_PRICE_UNIT)

    def joined(self, other: OutcomeTable) -> OutcomeTable:
        """Both tables' queries, over this table's actions; cells the other table does not have get weight 0."""
        columns = [other.actions.index(action) if action in other.actions else -1 for action in self.actions]
        heads: dict[str, Any] = {name: (*getattr(self, name), *getattr(other, name)) for name in QUERY_FIELDS}
        cells: dict[str, Any] = {name: np.vstack([getattr(self, name), _columns(getattr(other, name), columns)]) for name in CELLS}
        return replace(self, **heads, **cells)

    @property
    def digest(self) -> str:
        """SHA-256 over everything in the table."""
        digest = hashlib.sha256(json.dumps(self._heads()).encode())
        for name in CELLS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the table as one npz file that loads without pickle."""
        heads = np.frombuffer(json.dumps(self._heads()).encode(), dtype=np.uint8)
        with path.open("wb") as file:
            np.savez_compressed(file, heads=heads, **{name: getattr(self, name) for name in CELLS})

    @classmethod
    def load(cls, path: Path) -> OutcomeTable:
        """Read what `save` wrote.

        Raises:
            DatasetError: the file is no outcome table.
        """
        try:
            stored = read_npz(path)
            heads: dict[str, Any] = json.loads(stored["heads"].tobytes())
            cells: dict[str, Any] = {name: stored[name] for name in CELLS}
            heads = {name: tuple(values) for name, values in heads.items()}
            return cls(**heads, **cells)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(f"{path} is no outcome table ({error}): write it with OutcomeTable.save") from error

    def _heads(self) -> dict[str, list[str] | list[int]]:
        return {name: list(getattr(self, name)) for name in (*QUERY_FIELDS, "actions")}


def _check_cells(name: str, cells: Array, shape: tuple[int, int]) -> None:
    if cells.shape != shape:
        raise DatasetError(f"{name} has shape {cells.shape}, the table has {shape[0]} queries and {shape[1]} actions")
    if not np.isfinite(cells).all():
        row, column = np.argwhere(~np.isfinite(cells))[0]
        raise DatasetError(f"{name} of query {row}, action {column} is {cells[row, column]}: give it a number, or weight 0")


def _columns(cells: Array, columns: list[int]) -> Array:
    """(n, len(columns)) cells, zero where a column is -1."""
    taken = cells[:, [max(column, 0) for column in columns]]
    return np.where(np.array(columns) >= 0, taken, 0.0)
