"""The direction of the mean of some rows of a table: what a text's tokens, or its words, say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rheostat.router.base import FeatureRow


def mean_direction(table: FeatureRow, rows: Sequence[int] | npt.NDArray[np.int64], *, into: FeatureRow) -> None:
    """Write the mean of rows of an (n, d) table, scaled to norm one, into a (d,) vector; the first unit vector without any."""
    # The sum has the direction of the mean.
    np.add.reduce(table.take(rows, axis=0), axis=0, out=into)
    norm = math.sqrt(into.dot(into))
    if norm > 0:
        into /= norm
    else:
        into[0] = 1.0
