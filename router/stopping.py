"""When to stop sampling, as served: after each wave, small trees weigh stopping now against going on.

They look at the votes so far and at what the predictor expected of the query. Knows numbers only: which votes they are
is agreed between `policies.learned_stop`, which counts them, and `training.stopping`, which fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array
from rheostat.router.calibration import logit
from rheostat.router.trees import Trees

N_VOTES = 7
N_COUNTS = 5  # of these, the ones that are no log-probabilities


@dataclass(frozen=True)
class StopPolicy:
    """A stop policy over at most `len(steps) + 1` samples.

    Attributes:
        steps: the n-th (from 1) gives value of stopping minus value of going on after n samples, in reward, from the
            `N_VOTES` numbers of the vote followed by the prior. None never stops there.
        n_prior: numbers in a prior; 0 for a rule that looks at votes alone.
    """

    steps: tuple[Trees | None, ...]
    n_prior: int

    def advantage(self, features: Array, drawn: int) -> Array:
        """(n,) value of stopping over going on after `drawn` samples, for (n, N_VOTES + n_prior) rows; infinite at the end."""
        if drawn > len(self.steps):
            return np.full(len(features), np.inf)
        trees = self.steps[drawn - 1]
        return np.full(len(features), -np.inf) if trees is None else trees(features)

    @cached_property
    def reads_logprobs(self) -> bool:
        """Whether any step splits by a log-probability."""
        return any(trees is not None and trees.splits_by(range(N_COUNTS, N_VOTES)) for trees in self.steps)


@dataclass(frozen=True, slots=True)
class StopModel:
    """The stop policy of one action.

    Attributes:
        policy: fitted for it.
        priors: positions in the catalogue of the actions whose predicted P(correct) make the prior.
    """

    policy: StopPolicy
    priors: tuple[int, ...]

    def prior(self, p_correct: Array) -> tuple[float, ...]:
        """The prior of a query from the (a,) predictions for it."""
        return tuple(logit(p_correct[list(self.priors)]).tolist())


def stop_arrays(models: Mapping[str, StopModel]) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
    """Stop models by action, as arrays by name and a layout: what makes a bundle free of pickle."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    layout = []
    for number, (action, model) in enumerate(models.items()):
        kept = [drawn for drawn, trees in enumerate(model.policy.steps) if trees is not None]
        layout.append({"action": action, "priors": list(model.priors), "steps": kept, "depth": len(model.policy.steps), "votes": N_VOTES})
        for drawn in kept:
            arrays |= {f"stop{number}.{drawn}.{f.name}": getattr(model.policy.steps[drawn], f.name) for f in fields(Trees)}
    return arrays, layout


def stops_from(arrays: Mapping[str, npt.NDArray[Any]], layout: list[dict[str, Any]], n_actions: int) -> dict[str, StopModel]:
    """The models that `stop_arrays` took apart.

    Raises:
        KeyError: an array is missing.
        ValueError: the arrays are no trees, or a prior names no action.
    """
    return {str(entry["action"]): _model(arrays, number, entry, n_actions) for number, entry in enumerate(layout)}


def _model(arrays: Mapping[str, npt.NDArray[Any]], number: int, entry: dict[str, Any], n_actions: int) -> StopModel:
    priors = tuple(int(position) for position in entry["priors"])
    if entry.get("votes") != N_VOTES:
        raise ValueError(f"the stop rule of {entry['action']} looks at other features of the vote than this version has")
    if not all(0 <= position < n_actions for position in priors):
        raise ValueError(f"the stop rule of {entry['action']} has its prior from actions {priors} of {n_actions}")
    steps: list[Trees | None] = [None] * int(entry["depth"])
    for drawn in entry["steps"]:
        trees = Trees(**{f.name: arrays[f"stop{number}.{drawn}.{f.name}"] for f in fields(Trees)})
        trees.check(N_VOTES + len(priors))
        steps[drawn] = trees
    return StopModel(StopPolicy(tuple(steps), len(priors)), priors)
