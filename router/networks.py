"""A learner of small networks over all actions at once: what is learned of one action helps the others.

Several from different starts are averaged, which settles most of what single fits owe to chance.
Source: Lakshminarayanan et al. 2017 (deep ensembles).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rheostat.router.base import Array, FeatureRow
from rheostat.router.calibration import clamp
from rheostat.router.predictor import LOGIT_LIMIT


def standardised(features: FeatureRow, mean: FeatureRow, scale: FeatureRow) -> FeatureRow:
    """Rows with the training rows' means and deviations taken out, clipped at 6 sigma: what networks are fitted on and asked with."""
    return clamp((features - mean) / scale, -6.0, 6.0)


@dataclass(frozen=True, slots=True)
class Networks:
    """`m` networks of one hidden ReLU layer, each giving the logits of all actions.

    Attributes:
        mean, scale: (d,) of the training features.
        inner, inner_bias: (m, d, h) and (m, h).
        outer, outer_bias: (m, h, a) and (m, a).
    """

    mean: FeatureRow
    scale: FeatureRow
    inner: FeatureRow
    inner_bias: FeatureRow
    outer: FeatureRow
    outer_bias: FeatureRow

    def logits(self, features: FeatureRow) -> Array:
        """(n, a) mean logits within +-LOGIT_LIMIT of (n, d) rows, standardised and clipped at 6 sigma."""
        rows = standardised(features, self.mean, self.scale)
        hidden = np.maximum(rows @ self.inner + self.inner_bias[:, None], np.float32(0))
        total = np.add.reduce(hidden @ self.outer + self.outer_bias[:, None], axis=0)
        return clamp((total / np.float32(len(self.outer))).astype(np.float64), -LOGIT_LIMIT, LOGIT_LIMIT)
