"""What a segment's run in MLflow shows: metrics and tags, from its rows. Pure: knows neither store nor MLflow."""

from __future__ import annotations

from collections.abc import Sequence

from rheostat.data.ledger import Ledger
from rheostat.data.schema import SCHEMA_VERSION, Decision, Outcome
from rheostat.data.segments import Row, Segment

HASH_TAG = "rheostat.segment_sha256"
ID_TAG = "rheostat.segment_id"
_MAX_TAG = 500
_LEDGER_METRICS = {
    "prompt_tokens": "prompt",
    "cached_prompt_tokens": "cached_prompt",
    "completion_tokens": "completion",
    "reasoning_tokens": "reasoning",
    "verifier_tokens": "verifier",
    "wasted_tokens": "wasted",
    "calls": "calls",
}


def segment_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Counts, tokens by kind, spend in USD and rewards of a segment.

    `mean_reward` is over outcomes and rewards that arrived later, and absent where there are none; shares are of the
    segment's requests.
    """
    outcomes = [row.outcome for row in rows if row.outcome is not None]
    rewards = [o.reward for o in outcomes if o.reward is not None] + [row.reward.reward for row in rows if row.reward is not None]
    metrics = {
        "requests": float(len(outcomes)),
        "late_rewards": float(sum(row.reward is not None for row in rows)),
        "spend_usd": sum(outcome.cost_usd for outcome in outcomes),
        "rewarded_share": _share([outcome.reward is not None for outcome in outcomes]),
        "degraded_share": _share([row.decision is not None and row.decision.degraded is not None for row in rows if row.outcome]),
        "shed": float(sum(outcome.status == "shed" for outcome in outcomes)),
        "failed": float(sum(outcome.status == "failed" for outcome in outcomes)),
        **_tokens(outcomes),
    }
    return metrics | ({"mean_reward": sum(rewards) / len(rewards)} if rewards else {})


def segment_tags(segment: Segment, rows: Sequence[Row], host: str) -> dict[str, str]:
    """What a segment is found by: its hash, host, bundle versions, first and last row."""
    decisions = [row.decision for row in rows if row.decision is not None]
    return {
        HASH_TAG: segment.sha256,
        ID_TAG: segment.segment_id,
        "rheostat.host": host,
        "rheostat.bundles": _bundles(decisions),
        "rheostat.rows": str(segment.rows),
        "rheostat.first_seq": str(segment.first_seq),
        "rheostat.last_seq": str(segment.last_seq),
        "rheostat.first_id": rows[0].decision_id if rows else "",
        "rheostat.last_id": rows[-1].decision_id if rows else "",
        "rheostat.schema_version": str(SCHEMA_VERSION),
    }


def _tokens(outcomes: Sequence[Outcome]) -> dict[str, float]:
    ledger = sum((outcome.ledger for outcome in outcomes), Ledger())
    return {metric: float(getattr(ledger, field)) for metric, field in _LEDGER_METRICS.items()}


def _share(marks: Sequence[bool]) -> float:
    return sum(marks) / len(marks) if marks else 0.0


def _bundles(decisions: Sequence[Decision]) -> str:
    return ",".join(sorted({decision.bundle for decision in decisions if decision.bundle}))[:_MAX_TAG]
