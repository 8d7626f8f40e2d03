"""Fitting the lexicon: the leading directions in which a log's questions differ by their words. Looks at no outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Array, Encoder, FeatureRow, TokenEncoder
from rheostat.router.lexicon import BITS, Lexicon, buckets, joined
from rheostat.training.embeddings import embed, unheard
from rheostat.training.split import thinned

DIMENSION = 128
TEXTS_PER_DIRECTION = 50  # with fewer, learners found chance in the directions of small logs
MIN_TEXTS = 2  # a piece in one text alone says nothing of others
MAX_TEXTS = 20_000
_PASSES = 4


@dataclass(frozen=True, slots=True)
class TextRows:
    """Texts as an encoder read them, before a lexicon is fitted to some of them.

    Attributes:
        vectors: (n, dimension) embeddings.
        tokens: of each text; None where the encoder has none.
    """

    vectors: FeatureRow
    tokens: list[list[int]] | None = None

    @classmethod
    def of(
        cls, encoder: Encoder, texts: Sequence[str], folder: Path | None = None, *, on_progress: Callable[[float], None] = unheard
    ) -> TextRows:
        """All texts read once; see `embed`."""
        vectors = embed(encoder, texts, folder, on_progress=on_progress)
        return cls(vectors, encoder.tokens(list(texts)) if isinstance(encoder, TokenEncoder) else None)

    def worded(self, train: npt.NDArray[np.intp]) -> FeatureRow:
        """(n, dimension + d) rows with a lexicon of the train texts; the embeddings alone where there can be none."""
        lexicon = None if self.tokens is None else fit_lexicon([self.tokens[row] for row in train])
        return self.vectors if lexicon is None or self.tokens is None else joined(self.vectors, lexicon.vectors(self.tokens))


def lexicon_for(encoder: Encoder, texts: Sequence[str]) -> Lexicon | None:
    """The lexicon of the texts' tokens; None where the encoder has no tokens or the texts are too few."""
    if not isinstance(encoder, TokenEncoder):
        return None
    return fit_lexicon(encoder.tokens(list(texts)))


def fit_lexicon(texts: Sequence[Sequence[int]], *, dimension: int = DIMENSION) -> Lexicon | None:
    """Directions by a truncated singular value decomposition of which pieces are in which texts.

    Args:
        texts: tokens of each; of very many an even draw is enough.
        dimension: directions at most; fewer texts give fewer.

    Returns:
        None where the texts are too few, or have no piece in common.
    """
    from scipy.sparse import csr_matrix
    from sklearn.utils.extmath import randomized_svd

    held = [buckets(texts[row]) for row in thinned(np.arange(len(texts)), MAX_TEXTS)]
    if not held:
        return None
    rows = np.repeat(np.arange(len(held)), [len(each) for each in held])
    columns = np.concatenate(held)
    telling = _inverse_frequency(np.bincount(columns, minlength=1 << BITS), len(held))
    matrix = csr_matrix((telling[columns], (rows, columns)), shape=(len(held), 1 << BITS))
    norms = np.sqrt(np.bincount(rows, weights=telling[columns] ** 2, minlength=len(held)))
    matrix = csr_matrix(matrix.multiply(1.0 / np.maximum(norms, 1e-9)[:, None]))
    size = min(dimension, len(held) // TEXTS_PER_DIRECTION, int((telling > 0).sum()) - 1)
    if size < 1:
        return None
    _, _, directions = randomized_svd(matrix, size, n_iter=_PASSES, random_state=0)
    # Kept in half precision: what is served is what was fitted, wherever it is read.
    return Lexicon((telling[:, None] * directions.T).astype(np.float16).astype(np.float32))


def _inverse_frequency(seen: np.ndarray[tuple[int, ...], np.dtype[np.intp]], n_texts: int) -> Array:
    return np.asarray(np.where(seen >= MIN_TEXTS, np.log((1 + n_texts) / (1 + seen)) + 1, 0.0))
