"""A bundle with known numbers, small enough to reason about, and an encoder that needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from rheostat.data.schema import Action, Constraints, Query
from rheostat.router.ask import NO_CONSTRAINTS, Ask
from rheostat.router.base import Prediction
from rheostat.router.bundle import Bundle
from rheostat.router.calibration import ErrorBand, Platt, logit
from rheostat.router.features import STATISTICS
from rheostat.router.guard import Guard
from rheostat.router.held_out import HeldOut
from rheostat.router.paths import Paths
from rheostat.router.predictor import CostHead, Linear, Predictor, PriceVector
from rheostat.router.situation import Situation

DIMENSION = 4
ACTIONS = ("small/direct@64", "small/cot@256", "large/self_consistency(k=8)@2048")
P_CORRECT = np.array([0.3, 0.6, 0.9])
TOKENS = np.array([4.0, 60.0, 500.0])


def ask(
    text: str = "What is 2+2?",
    *,
    tier: str = "balanced",
    defaults: Constraints = NO_CONSTRAINTS,
    models: frozenset[str] | None = None,
    forced: Action | None = None,
    scarcity: Mapping[str, float] | None = None,
    **constraints: Any,
) -> Ask:
    """A request whose query has these constraints."""
    query = Query.of_text(text, constraints=Constraints(**constraints))
    return Ask(query, tier=tier, defaults=defaults, models=models, forced=forced, scarcity=scarcity or {})


class PlainEncoder:
    """Every text is the same unit vector, except those that say `far`."""

    encoder_id = "plain:0"
    dimension = DIMENSION

    def encode(self, texts: list[str]) -> np.ndarray:
        rows = np.zeros((len(texts), DIMENSION), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[3 if text.startswith("far") else 0] = 1.0
        return rows


def constant(values: np.ndarray) -> Linear:
    d = DIMENSION + len(STATISTICS)
    return Linear(np.zeros(d), np.ones(d), np.zeros((d, len(values))), values)


def known_predictor() -> Predictor:
    ones = np.ones(3)
    costs = CostHead(constant(np.log1p(TOKENS)), constant(np.log1p(TOKENS / 100)), ones, ones, 2 * ones, 0.0, 0.25)
    band = ErrorBand(np.array([0.0, 1.0]), np.array([0.05, 0.05]), np.array([0.05, 0.05]))
    return Predictor((constant(logit(P_CORRECT)),), (1.0,), Platt(ones, np.zeros(3)), band, costs)


def known_bundle() -> Bundle:
    """Half the held-out queries are easy for everything, half need the dear action."""
    easy = np.tile([0.95, 0.96, 0.97], (50, 1))
    hard = np.tile([0.05, 0.2, 0.9], (50, 1))
    p = np.vstack([easy, hard])
    tokens = np.tile(TOKENS, (100, 1))
    canary = np.zeros((2, DIMENSION + len(STATISTICS)), np.float32)
    predictor = known_predictor()
    return Bundle(
        version="7",
        actions=tuple(Action.parse(spelling) for spelling in ACTIONS),
        encoder_id="plain:0",
        encoder_name="plain",
        predictor=predictor,
        guard=Guard(np.eye(DIMENSION, dtype=np.float32)[:1], 0.5, 2),
        held_out=HeldOut.known(p, p, tokens, np.full((100, 3), 10.0)),
        canary=canary,
        canary_p=predictor.p_correct(canary),
        metrics={"n_test": 3.0},
    )


def promising_bundle() -> Bundle:
    """The same with 800 held-out queries, every other one fresh."""
    bundle = known_bundle()
    held = HeldOut(*(np.repeat(values, 8, axis=0) for values in bundle.held_out))
    return replace(bundle, held_out=held._replace(fresh=np.arange(800) % 2 == 1))


def situation(**changes: Any) -> Situation:
    """A query about which is known what the bundle expects of every query: all actions are up and fit."""
    cost, every = TOKENS * 1e-6, np.ones(3, bool)
    known = Situation(
        embedding=PlainEncoder().encode(["near"])[0],
        features=np.zeros(DIMENSION, np.float32),
        prediction=Prediction(P_CORRECT, P_CORRECT - 0.05, P_CORRECT + 0.05, TOKENS, cost, TOKENS / 100),
        constraints=NO_CONSTRAINTS,
        allowed=every,
        admissible=every,
        target=0.5,
        weighed=cost,
        seconds_p95=TOKENS / 50,
        paced=None,
    )
    return msgspec.structs.replace(known, **changes)


def known_paths(bundle: Bundle | None = None) -> Paths:
    """Of a bundle's held-out queries, at 1 USD per million tokens."""
    return Paths(bundle or known_bundle(), PriceVector(np.full(3, 1e-6), np.zeros(3)))


@pytest.fixture
def bundle() -> Bundle:
    return known_bundle()
