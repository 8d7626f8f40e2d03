"""What is written about a request, and how much of its text: decisions before spending, outcomes after.

Never waits for the disk (the store's writer thread does) and never sees HTTP.
"""

from __future__ import annotations

import time
from typing import Protocol

import msgspec

from rheostat.data.schema import Decision, Outcome, Query, Reward
from rheostat.router.recent import Recent
from rheostat.serving.config import StorePrompts
from rheostat.serving.context import note

REMEMBERED = 10_000


class Store(Protocol):
    """The part of the outcome store that serving needs."""

    def put(self, record: Decision | Outcome | Reward) -> bool:
        """Queue a record; never blocks and never raises. False where it was dropped."""
        ...

    def decision(self, decision_id: str) -> Decision | None:
        """A committed decision."""
        ...

    def outcome(self, decision_id: str) -> Outcome | None:
        """A committed outcome."""
        ...


class Known(msgspec.Struct, frozen=True):
    """What feedback needs to know of a decision."""

    tenant: str
    answer: str | None


class Recorder:
    """Writes decisions, outcomes and rewards under one privacy setting.

    The last decisions are also remembered here: feedback may arrive before the group commit that holds them.
    """

    def __init__(self, store: Store, *, store_prompts: StorePrompts) -> None:
        self._store = store
        self._store_prompts = store_prompts
        self._recent: Recent[Known] = Recent(REMEMBERED)

    def decided(self, decision: Decision, query: Query) -> None:
        """Write a decision; to be called before anything is spent on it."""
        note(
            decision_id=decision.decision_id,
            tier=decision.tier,
            action=decision.action,
            bundle=decision.bundle,
            degraded=decision.degraded,
        )
        self._store.put(self._redacted(decision, query))
        self._recent.keep(decision.decision_id, Known(decision.tenant, None))

    def finished(self, outcome: Outcome, tenant: str) -> None:
        """Write what came of a decision."""
        note(outcome=outcome.status, stop_reason=outcome.stop_reason, tokens=outcome.ledger.generated, cost_usd=outcome.cost_usd)
        kept = outcome if self._store_prompts == "full" else msgspec.structs.replace(outcome, answer=None)
        self._store.put(kept)
        self._recent.keep(outcome.decision_id, Known(tenant, kept.answer))

    def rewarded(self, decision_id: str, reward: float, source: str) -> None:
        """Write a reward that arrived later; a second one from the same source changes nothing."""
        self._store.put(Reward(decision_id=decision_id, reward=reward, source=source, created_s=time.time()))

    def recent(self, decision_id: str) -> Known | None:
        """A decision of the last minutes, committed or not."""
        return self._recent.find(decision_id)

    def stored(self, decision_id: str) -> Known | None:
        """A committed decision, from the disk: call it in a thread."""
        decision = self._store.decision(decision_id)
        if decision is None:
            return None
        outcome = self._store.outcome(decision_id)
        return Known(decision.tenant, outcome.answer if outcome else None)

    def _redacted(self, decision: Decision, query: Query) -> Decision:
        if self._store_prompts == "full":
            return msgspec.structs.replace(decision, prompt_text=query.text)
        sha256 = decision.prompt_sha256 if self._store_prompts == "hash" else ""
        return msgspec.structs.replace(decision, prompt_text=None, prompt_sha256=sha256)
