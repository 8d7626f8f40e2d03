"""The guard: which queries lie too far from everything seen in training to trust a prediction.

Knows embeddings and a limit, nothing of predictions. The distance is 1 - cosine to the k-th nearest training query.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rheostat.router.base import FeatureRow

NEIGHBOURS = 3
FIRST = 128  # support rows that are looked at before the others
MAX_SUPPORT = 1024


@dataclass(frozen=True, slots=True)
class Guard:
    """Training embeddings, the distance that is too far, and the action to take there.

    Attributes:
        support: (m, dimension) unit rows, m <= MAX_SUPPORT.
        limit: distance beyond which a query is out of distribution.
        action: index of the best fixed action.
    """

    support: FeatureRow
    limit: float
    action: int

    def distance(self, embedding: FeatureRow) -> float:
        """1 - cosine similarity to the NEIGHBOURS-th nearest support row."""
        return float(distances(self.support, embedding[None, :])[0])

    def is_far(self, embedding: FeatureRow) -> bool:
        """Whether the query is out of distribution.

        It is not once enough rows are near, and often some of the first ones are enough.
        """
        missing = min(NEIGHBOURS, len(self.support))
        for rows in (self.support[:FIRST], self.support[FIRST:]):
            missing -= int(np.count_nonzero(1.0 - rows @ embedding <= self.limit))
            if missing <= 0:
                return False
        return True

    def far(self, embeddings: FeatureRow) -> npt.NDArray[np.bool_]:
        """(n,) which of (n, dimension) queries are."""
        return distances(self.support, embeddings) > self.limit


def distances(support: FeatureRow, embeddings: FeatureRow, *, skipped: int = 0) -> npt.NDArray[np.float32]:
    """(n,) distance of each of (n, dimension) rows to its NEIGHBOURS-th nearest support row, the `skipped` nearest left out."""
    nearness = embeddings @ support.T
    rank = min(NEIGHBOURS + skipped, support.shape[0])
    return np.asarray(1.0 - np.partition(nearness, -rank, axis=1)[:, -rank], dtype=np.float32)
