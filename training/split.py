"""Splits by query, decided by the text alone: the same question is on the same side in every table and every year.

So a retrained bundle never learns from questions it or its predecessor is judged on, and near-duplicates (same words,
other spaces or capitals) stay together. Numbers are not masked: procedural questions differ in nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rheostat.training.outcomes import Mask, Rows

TRAIN_SHARE = 0.6
CALIBRATION_SHARE = 0.2
FRESH_SHARE = 0.5  # of the calibration queries


class Split(NamedTuple):
    """Row numbers of the three parts, ascending."""

    train: Rows
    calibration: Rows
    test: Rows


def split_rows(texts: Sequence[str], *, seed: int) -> Split:
    """60% train, 20% calibration, 20% test, in expectation."""
    position = positions(texts, f"split-{seed}")
    calibration_end = TRAIN_SHARE + CALIBRATION_SHARE
    return Split(
        np.flatnonzero(position < TRAIN_SHARE),
        np.flatnonzero((position >= TRAIN_SHARE) & (position < calibration_end)),
        np.flatnonzero(position >= calibration_end),
    )


def distinct(texts: Sequence[str], rows: Rows) -> Rows:
    """The first of the rows with each text, ascending: the same question again is no further evidence."""
    places = positions([texts[row] for row in rows], "")
    return rows[np.sort(np.unique(places, return_index=True)[1])]


def thinned(rows: Rows, most: int) -> Rows:
    """At most so many of the rows, evenly drawn."""
    return rows[:: max(1, -(-len(rows) // most))]


def fresh_half(texts: Sequence[str], *, seed: int) -> Mask:
    """(n,) about half of the queries, to be kept from everything that is fitted or chosen."""
    return positions(texts, f"fresh-{seed}") < FRESH_SHARE


def folds(texts: Sequence[str], n_folds: int, *, seed: int) -> list[Rows]:
    """The rows of each fold, near-duplicates together."""
    fold = (positions(texts, f"fold-{seed}") * n_folds).astype(int)
    return [np.flatnonzero(fold == number) for number in range(n_folds)]


def positions(texts: Sequence[str], salt: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(n,) a number in [0, 1) for each text, the same for near-duplicates."""
    return np.array([_position(text, salt) for text in texts])


def _position(text: str, salt: str) -> float:
    normal = " ".join(text.lower().split())
    digest = hashlib.blake2b(f"{salt}\0{normal}".encode("utf-8", "replace"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
