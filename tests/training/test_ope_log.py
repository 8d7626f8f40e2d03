"""A bundle judged on the store of another router."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.ledger import Ledger
from rheostat.data.schema import Decision, Outcome
from rheostat.data.store import OutcomeStore
from rheostat.training.ope import evaluate_policy
from rheostat.training.ope_log import logged_bandit, modelled_rewards, read_live
from tests.training.make import ACTIONS, bundle

N = 240


def write(path: Path, *, text: bool = True) -> None:
    """An even coin chose; the cheap action is right on easy questions, the dear one 9 times in 10 everywhere."""
    rng = np.random.default_rng(0)
    with OutcomeStore(path) as store:
        for i in range(N):
            hard, dear = bool(i % 2), bool(rng.integers(2))
            reward = float(rng.random() < 0.9) if dear else float(not hard)
            name = f"d{i:04}"
            store.put(
                Decision(
                    decision_id=name,
                    query_id=f"q{i}",
                    created_s=float(i),
                    action=ACTIONS[dear],
                    propensity=0.5,
                    prompt_text=f"{'hard' if hard else 'easy'} {i}" if text else None,
                )
            )
            ledger = Ledger(calls=1, prompt=1, completion=100 if dear else 10)
            store.put(Outcome(decision_id=name, finished_s=i + 1.0, status="ok", ledger=ledger, cost_usd=0.0, latency_s=0.1, reward=reward))


def test_a_router_that_knows_is_worth_what_it_would_earn(tmp_path):
    write(tmp_path / "log.db")
    router = bundle(tmp_path / "bundle", knows=True)
    log = read_live([tmp_path / "log.db"], router)
    bandit = logged_bandit(log, router, target=0.9, prices={})
    assert log.counts == {"used": N}
    assert (bandit.propensity == 0.5).all()
    found = evaluate_policy(bandit, modelled_rewards(log.table, router.encoder))
    for name in ("ips", "snips", "dr"):
        assert found.estimates[name].low <= 0.95 <= found.estimates[name].high


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path):
    write(tmp_path / "log.db", text=False)
    with pytest.raises(DatasetError, match="240 text not kept"):
        read_live([tmp_path / "log.db"], bundle(tmp_path / "bundle", knows=True))
