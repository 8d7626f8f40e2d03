"""A text's own words as a vector: which pieces of words and pairs of them it holds, along the directions in which a log differs.

An embedding says what a text is about; how hard a question is often lies in its very wording, which this keeps. Pieces
are the encoder's tokens, hashed, so that no vocabulary is carried along. Inference only.
Sources: Deerwester et al. 1990 (latent semantic analysis); Weinberger et al. 2009 (hashing).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from rheostat.router.base import Encoder, FeatureRow, TokenEncoder
from rheostat.router.mean_direction import mean_direction

Buckets = npt.NDArray[np.int64]

BITS = 14
_SINGLE, _FIRST, _SECOND = (np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))
_SHIFT = np.uint64(64 - BITS)


def buckets(tokens: Sequence[int]) -> Buckets:
    """The different buckets, below 2 ** BITS and ascending, of a text's tokens and of each two that stand together."""
    ids = np.array(tokens, dtype=np.uint64)
    # Products with large odd numbers wrap around, and their high bits are the well-mixed ones (Knuth 1973).
    mixed = np.concatenate([ids * _SINGLE, ids[:-1] * _FIRST + ids[1:] * _SECOND])
    found = (mixed >> _SHIFT).astype(np.int64)
    found.sort()
    return np.concatenate([found[:1], found[1:][found[1:] > found[:-1]]])  # np.unique takes three times as long on so few


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Where each bucket points.

    Attributes:
        table: (2 ** BITS, d) direction of a bucket, times how much it tells (its inverse document frequency).
    """

    table: FeatureRow

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or len(self.table) != 1 << BITS or not self.table.shape[1]:
            raise ValueError(f"a lexicon is a ({1 << BITS}, d) table, not {self.table.shape}")

    @property
    def dimension(self) -> int:
        """d."""
        return int(self.table.shape[1])

    def vectors(self, texts: Sequence[Sequence[int]]) -> FeatureRow:
        """(n, d) rows of norm one of n texts' tokens; a text without known pieces gives the first unit vector."""
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for vector, tokens in zip(vectors, texts, strict=True):
            mean_direction(self.table, buckets(tokens), into=vector)
        return vectors


class LexicalEncoder:
    """An encoder and a lexicon over its tokens, side by side, each with half of the squared norm."""

    def __init__(self, base: TokenEncoder, lexicon: Lexicon) -> None:
        self._base, self._lexicon = base, lexicon
        self.encoder_id = f"{base.encoder_id}+{sha256(lexicon.table.tobytes()).hexdigest()[:12]}"
        self.dimension = base.dimension + lexicon.dimension

    def encode(self, texts: list[str]) -> FeatureRow:
        """(n, dimension) rows of norm one."""
        vectors, tokens = self._base.read(texts)
        return joined(vectors, self._lexicon.vectors(tokens))


def joined(vectors: FeatureRow, words: FeatureRow) -> FeatureRow:
    """(n, d + w) rows of norm one from (n, d) and (n, w) rows of norm one."""
    return np.concatenate([vectors, words], axis=1) * np.float32(math.sqrt(0.5))


def with_lexicon(base: Encoder, lexicon: Lexicon | None) -> Encoder:
    """The encoder that a bundle with this lexicon, if any, reads texts by.

    Raises:
        ValueError: the base gives no tokens, which a lexicon needs.
    """
    if lexicon is None:
        return base
    if not isinstance(base, TokenEncoder):
        raise ValueError(f"the lexicon reads tokens, which the encoder {base.encoder_id} does not give")
    return LexicalEncoder(base, lexicon)
