"""A small simulated log, fitted once, for the tests of fit, evaluate and report."""

from __future__ import annotations

import functools
import hashlib

import msgspec
import numpy as np
import polars as pl

from rheostat.data.ledger import Price
from rheostat.data.schema import Action
from rheostat.data.simulate import World
from rheostat.training.fit import Fitted, fit
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.replay import replay
from rheostat.training.sample_log import SampleLog

PRICES = {"small": Price(usd_per_1m_output=1.0), "large": Price(usd_per_1m_output=5.0)}
SPELLINGS = (
    "small/direct@64",
    "small/cot@192",
    "small/self_consistency(k=8)@1536",
    "large/direct@64",
    "large/cot@192",
    "large/self_consistency(k=8)@1536",
)


class WordEncoder:
    """A random direction for every word: text to vectors without weights on disk."""

    encoder_id = "words:0"
    dimension = 16

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.stack([self._unit(text) for text in texts]) if texts else np.zeros((0, self.dimension), np.float32)

    def _unit(self, text: str) -> np.ndarray:
        total = sum((_direction(word, self.dimension) for word in text.split() if word.isalpha()), np.full(self.dimension, 1e-3))
        return (total / np.linalg.norm(total)).astype(np.float32)


@functools.cache
def _direction(word: str, dimension: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(seed).normal(size=dimension)


@functools.cache
def simulated_table(n: int = 1600) -> OutcomeTable:
    frame = pl.DataFrame([msgspec.structs.asdict(s) for s in World(0).samples(n, direct=2, cot=8)], infer_schema_length=None)
    return replay(frame, [Action.parse(spelling) for spelling in SPELLINGS])


@functools.cache
def simulated_log(n: int = 500) -> SampleLog:
    """One terse answer and sixteen chains of both models."""
    return SampleLog.of(simulated_frame(n))


def simulated_frame(n: int = 500) -> pl.DataFrame:
    """The rows of `simulated_log`."""
    samples = World(0).samples(n, direct=1, cot=16)
    return pl.DataFrame([msgspec.structs.asdict(s) for s in samples], infer_schema_length=None)


def fit_table(table: OutcomeTable, **options) -> Fitted:
    return fit(table, encoder=WordEncoder(), encoder_name="words", prices=PRICES, **options)


@functools.cache
def fitted() -> Fitted:
    return fit_table(simulated_table())
