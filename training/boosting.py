"""LightGBM on cross-entropy, the same way wherever it is fitted: on one thread, and alike on every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rheostat.router.base import Array, FeatureRow

if TYPE_CHECKING:
    from lightgbm import Booster

_ALWAYS = {"objective": "cross_entropy", "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}


def fit_booster(
    rows: Array | FeatureRow, label: Array, weight: Array | None = None, *, settings: Mapping[str, Any], rounds: int, seed: int
) -> Booster:
    """Boosted trees for labels in [0, 1], which may be fractions.

    Args:
        rows: (n, f) features.
        label: (n,) what is to be predicted.
        weight: (n,) of the rows; all alike when None.
        settings: LightGBM's own, but for what is always the same.
        rounds: of boosting.
        seed: of everything random.
    """
    import lightgbm

    data = lightgbm.Dataset(rows, label=label, weight=weight, free_raw_data=True)
    return lightgbm.train({**_ALWAYS, **settings, "seed": seed}, data, num_boost_round=rounds)
