"""Makers of records, so that a test says only what it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rheostat.data.ledger import Ledger
from rheostat.data.schema import Attempt, Decision, Guarantee, Outcome, Reward, Sample
from rheostat.data.store import OutcomeStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OutcomeStore]:
    """An empty store, closed after the test."""
    opened = OutcomeStore(tmp_path / "store.db")
    yield opened
    opened.close()


@pytest.fixture
def decision() -> Callable[[int], Decision]:
    """The i-th decision, with something in every field."""

    def make(i: int) -> Decision:
        return Decision(
            decision_id=f"d-{i:06d}",
            query_id=f"q-{i}",
            created_s=1_000.0 + i,
            action="pocket/self_consistency(k=8)@2048",
            propensity=0.25,
            target_accuracy=0.9,
            p_correct=0.8,
            p_interval=(0.7, 0.9),
            cost_usd=1e-6,
            bundle="3",
            explored=True,
            prompt_text="nul \x00, line\r\nfeed, colour \x1b[31m",
            embedding=bytes(range(16)),
            alternatives={"pocket/direct@64": (0.3, 1e-7)},
            guarantee=Guarantee(target=0.9, confidence=0.95, holds=False, attainable=0.85),
        )

    return make


@pytest.fixture
def outcome() -> Callable[..., Outcome]:
    """The outcome of the i-th decision."""

    def make(i: int, reward: float | None = None) -> Outcome:
        ledger = Ledger(calls=2, prompt=20, cached_prompt=10, completion=50, reasoning=5, verifier=3, wasted=4)
        return Outcome(
            decision_id=f"d-{i:06d}",
            finished_s=1_001.0 + i,
            status="ok",
            ledger=ledger,
            cost_usd=57e-6,
            latency_s=0.5,
            answer="7",
            samples=4,
            agreement=0.75,
            stop_reason="lead",
            reward=reward,
            reward_source=None if reward is None else "verifier",
            attempts=(Attempt(model="pocket", kind="completion", status="ok", ledger=ledger, latency_s=0.5, n=4),),
        )

    return make


@pytest.fixture
def reward() -> Callable[..., Reward]:
    """A later reward for the i-th decision."""

    def make(i: int, value: float = 1.0, source: str = "feedback", created_s: float = 2_000.0) -> Reward:
        return Reward(decision_id=f"d-{i:06d}", reward=value, source=source, created_s=created_s)

    return make


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """The i-th sample of one question."""

    def make(i: int, **changed: object) -> Sample:
        fields: dict[str, object] = {
            "dataset": "pocket/addition",
            "query_id": "q",
            "query_text": "What is 3 + 4?",
            "model": "pocket",
            "strategy": "cot",
            "sample_index": i,
            "temperature": 0.8,
            "answer": "7",
            "gold": "7",
            "correct": 1.0,
            "prompt_tokens": 9,
            "completion_tokens": 12,
            "latency_s": 0.01,
        }
        return Sample(**(fields | changed))  # type: ignore[arg-type]

    return make
