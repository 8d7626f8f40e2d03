"""Embeddings of many texts, kept on disk: the slow part of a backtest is done once for an encoder and its texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rheostat.router.base import Encoder, FeatureRow

_BATCH = 256


def unheard(share: float) -> None:
    """Report progress to nobody."""
    del share


def embed(
    encoder: Encoder, texts: Sequence[str], folder: Path | None = None, *, on_progress: Callable[[float], None] = unheard
) -> FeatureRow:
    """(n, dimension) embeddings, from the folder if these texts were embedded with these weights before.

    Args:
        encoder: its id names the weights.
        texts: n texts.
        folder: where to keep them; nowhere when None.
        on_progress: told the share done.
    """
    path = None if folder is None else folder / f"{_key(encoder, texts)}.npy"
    if path is not None and path.exists():
        kept: FeatureRow = np.load(path, allow_pickle=False)
        return kept
    vectors = _embed(encoder, texts, on_progress)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        partial.replace(path)
    return vectors


def _embed(encoder: Encoder, texts: Sequence[str], on_progress: Callable[[float], None]) -> FeatureRow:
    vectors = np.zeros((len(texts), encoder.dimension), dtype=np.float32)
    # Texts of like length share a batch, so that little of it is padding.
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        vectors[rows] = encoder.encode([texts[row] for row in rows])
        on_progress((start + len(rows)) / len(order))
    return vectors


def _key(encoder: Encoder, texts: Sequence[str]) -> str:
    digest = hashlib.sha256(encoder.encoder_id.encode())
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "replace"))
    return digest.hexdigest()[:32]
