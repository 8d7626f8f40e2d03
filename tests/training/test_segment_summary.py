import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheostat.data.ledger import Ledger
from rheostat.data.schema import Decision, Outcome, Reward
from rheostat.data.segments import Row, Segment
from rheostat.training.segment_summary import HASH_TAG, segment_metrics, segment_tags

rewards = st.none() | st.floats(0, 1)


def finished(seq, reward=None, *, bundle="1", status="ok", tokens=3):
    decision = Decision(decision_id=f"d{seq}", query_id="q", created_s=0.0, action="m/direct@8", propensity=1.0, bundle=bundle)
    outcome = Outcome(
        decision_id=f"d{seq}",
        finished_s=1.0,
        status=status,
        ledger=Ledger(calls=1, completion=tokens, wasted=1),
        cost_usd=0.5,
        latency_s=0.1,
        reward=reward,
    )
    return Row(seq=seq, kind="outcome", decision_id=f"d{seq}", decision=decision, outcome=outcome)


@given(st.lists(st.tuples(rewards, st.integers(0, 999)), max_size=20))
def test_tokens_and_spend_are_sums_and_shares_stay_shares(made):
    metrics = segment_metrics([finished(i, reward, tokens=tokens) for i, (reward, tokens) in enumerate(made)])
    assert metrics["completion_tokens"] == sum(tokens for _, tokens in made)
    assert (metrics["wasted_tokens"], metrics["calls"], metrics["requests"]) == (len(made), len(made), len(made))
    assert metrics["spend_usd"] == pytest.approx(0.5 * len(made))
    assert 0 <= metrics["rewarded_share"] <= 1
    assert ("mean_reward" in metrics) == any(reward is not None for reward, _ in made)


def test_a_late_reward_counts_in_the_mean_and_is_no_request():
    late = Row(seq=2, kind="reward", decision_id="d1", reward=Reward(decision_id="d1", reward=0.0, source="user", created_s=2.0))
    metrics = segment_metrics([finished(1, 1.0), late])
    assert (metrics["mean_reward"], metrics["requests"], metrics["late_rewards"]) == (0.5, 1, 1)


def test_shed_and_failed_requests_are_counted_apart():
    metrics = segment_metrics([finished(1, status="shed"), finished(2, status="failed"), finished(3)])
    assert (metrics["shed"], metrics["failed"]) == (1, 1)


def test_tags_name_the_hash_the_host_every_bundle_and_both_ends():
    segment = Segment(segment_id="s", first_seq=1, last_seq=3, rows=3, sha256="ab", state="closed")
    tags = segment_tags(segment, [finished(1, bundle="2"), finished(2, bundle="1"), finished(3, bundle="2")], "host")
    assert tags[HASH_TAG] == "ab"
    assert (tags["rheostat.host"], tags["rheostat.bundles"]) == ("host", "1,2")
    assert (tags["rheostat.first_id"], tags["rheostat.last_id"]) == ("d1", "d3")
